"""onnxruntime alone, in one process: `python raw_loop.py model.onnx rows.npz SECONDS`; two threads, no wire at all."""

import json
import sys
import threading
import time

import numpy as np
import onnxruntime

THREADS, WARM_UP = 2, 2.0


def main(model: str, rows: str, seconds: float) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = dict(np.load(rows))
    _loops(session, feeds, WARM_UP)
    before = time.process_time()
    took = _loops(session, feeds, seconds)
    cpu = 1e3 * (time.process_time() - before) / len(took)
    p50, p99 = np.percentile(took, [50, 99])
    print(json.dumps({"rate": len(took) / seconds, "p50": p50, "p99": p99, "cpu": cpu, "load_cpu": 0.0, "failed": 0}))


def _loops(session, feeds, seconds):
    took, end = [], time.perf_counter() + seconds

    def loop():
        start = time.perf_counter()
        while start < end:
            session.run(["score"], feeds)
            done = time.perf_counter()
            took.append(done - start)
            start = done

    threads = [threading.Thread(target=loop) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))

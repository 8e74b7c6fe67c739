"""Both resources and model.json as typed values, their hashes, and the CRDs made from them.

Pure: imports no room of Tidegate and does no I/O beyond reading a file that it is handed.
"""

"""How a rollout is judged and moved. Pure: no I/O, no clock; time is an argument, a decision is a value."""

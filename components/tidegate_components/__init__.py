"""The steps of the training DAG: plain functions, one room each."""

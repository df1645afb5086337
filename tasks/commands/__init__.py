"""Commands of `auglift` that are no stages of the DAG: `scan`, `judge`, `export` and `generate`."""

"""Commands of `auglift` that are no stages of the DAG, and how a command declares its options."""

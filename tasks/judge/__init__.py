"""`auglift judge`: the gate on folders of images, whatever made them; no stage of the DAG."""

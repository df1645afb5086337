"""The deployment `auglift-stage/stage`, as `prefect deploy` makes it, in a pool of the tests."""

DEPLOY = """
from prefect import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from flows.stage_worker import run_stage
with get_client(sync_client=True) as client:
    pool = WorkPoolCreate(name="machines", type="process")
    client.create_work_pool(pool, overwrite=True)  # another test may have made it
    client.create_deployment(
        flow_id=client.create_flow(run_stage), name="stage", work_pool_name="machines",
        entrypoint="flows.stage_worker.run_stage", pull_steps=[{"flows.worker_clone.enter": {}}],
        parameter_openapi_schema=run_stage.parameters.model_dump(),
    )
"""

"""`prefect.yaml`: its deployments name flows that there are, with parameters that they take."""

import importlib
from typing import Any

import pytest
import yaml
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import Flow

from tests.imports import ROOT

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    one["name"]: one for one in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
}


def test_there_is_a_deployment_of_the_pipeline_the_intake_a_stage_and_the_search() -> None:
    assert list(DEPLOYMENTS) == ["pipeline", "intake", "stage", "tune"]
    limit = {"limit": 1, "collision_strategy": "ENQUEUE"}
    assert DEPLOYMENTS["pipeline"]["concurrency_limit"] == limit
    (schedule,) = DEPLOYMENTS["pipeline"]["schedules"]
    CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    assert schedule["active"] is False  # a person switches it on


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_names_a_flow_that_takes_its_parameters(name: str) -> None:
    path, _, function = DEPLOYMENTS[name]["entrypoint"].partition(":")
    assert (ROOT / path).is_file()
    found = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), function)
    assert isinstance(found, Flow)
    assert found.flow_run_name  # says what runs, in place of two words of chance
    given = DEPLOYMENTS[name].get("parameters", {})
    if given:
        assert found.validate_parameters(given).items() >= given.items()
    assert set(given) <= set(found.parameters.properties)
    for key in {"workers", "trials"} & set(found.parameters.properties):
        assert found.parameters.properties[key]["minimum"] == 0
    for step in DEPLOYMENTS[name].get("pull", []):
        (address,) = step
        module, _, action = address.rpartition(".")
        assert callable(getattr(importlib.import_module(module), action))

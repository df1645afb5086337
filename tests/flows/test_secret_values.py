"""Secrets of the environment are hidden in what is printed, and refused in params."""

import subprocess
from pathlib import Path

import pytest

from flows.git_commit import git
from flows.overrides import overridden
from flows.release_git import git_output
from flows.secret_values import check_params_hold_no_secret, hide_secrets
from tasks.stage.errors import InputError
from tests.imports import ROOT

PLANTED = "pl4nted-s3cret"


@pytest.mark.parametrize(
    "name", ["AWS_SECRET_ACCESS_KEY", "AUGLIFT_KEY", "PACS_PASSWORD", "api_token"]
)
def test_the_value_of_a_variable_named_like_a_secret_is_hidden(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, PLANTED)
    assert hide_secrets(f"login with {PLANTED}: refused") == "login with ***: refused"


@pytest.mark.parametrize(
    ("name", "value"),
    [("KEYBOARD", "qwerty-layout"), ("SSH_KEY", str(ROOT)), ("PIN_KEY", "1234"), ("KEY", "")],
)
def test_other_values_files_and_short_words_are_shown(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert hide_secrets(f"see {value}.") == f"see {value}."


def test_a_secret_of_any_length_and_of_several_lines_is_hidden_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_TOKEN", PLANTED)
    monkeypatch.setenv("B_TOKEN", f"{PLANTED}-and-its-end")
    monkeypatch.setenv("C_TOKEN", "x1" * 2000)
    monkeypatch.setenv("D_KEY", "-----BEGIN KEY-----\nabcdefgh12345678\n-----END KEY-----\n")
    assert hide_secrets(f"{PLANTED}-and-its-end") == "***"
    assert hide_secrets(f"token {'x1' * 2000}.") == "token ***."
    assert hide_secrets("  abcdefgh12345678") == "  ***"


def test_a_password_inside_an_address_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hide_secrets("https://me:hunter2@host/x") == "https://me:***@host/x"
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:{PLANTED}@host/api")
    assert PLANTED not in hide_secrets(f"wrong password {PLANTED}")


def test_a_secret_in_params_is_refused_without_printing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PACS_PASSWORD", PLANTED)
    check_params_hold_no_secret()
    with overridden({"release.license": f"by {PLANTED}"}), pytest.raises(InputError) as failure:
        check_params_hold_no_secret()
    assert "release.license holds the secret of the variable PACS_PASSWORD" in str(failure.value)
    assert PLANTED not in str(failure.value)


def test_what_git_says_of_an_address_hides_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    address = f"https://me:{PLANTED}@localhost:1/x"
    for ask in (git, git_output):
        with pytest.raises(InputError) as failure:
            ask("rev-parse", address)
        assert PLANTED not in str(failure.value)
        assert "git rev-parse failed" in str(failure.value)

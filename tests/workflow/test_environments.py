import re
import tomllib
from importlib import metadata

import yaml

PINNED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;#]+)$")


def lock(repository) -> dict[str, str]:
    lines = (repository / "envs/lock.txt").read_text().splitlines()
    matches = [PINNED.match(line) for line in lines if line and not line.startswith("#")]
    assert all(matches), "every line of the lock is name==version"
    return {match[1].lower().replace("_", "-"): match[2] for match in matches}


def needed_to_run(repository) -> set[str]:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return {re.match(r"[A-Za-z0-9._-]+", name)[0].lower() for name in project["dependencies"]}


def declared(repository) -> set[str]:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(name for extra in extras for name in extra)]
    return {re.match(r"[A-Za-z0-9._-]+", name)[0].lower() for name in wanted}


def test_everything_declared_is_locked(repository):
    missing = declared(repository) - set(lock(repository))
    assert not missing
    assert lock(repository)["torch"] == "2.13.0"
    assert "torchvision" not in lock(repository)


def test_conda_environments_agree_with_the_lock(repository):
    for name in ("cpu", "gpu"):
        environment = yaml.safe_load((repository / f"envs/{name}.yaml").read_text())
        conda = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
        pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
        pins = dict(entry.split("=")[:2] for entry in conda if "=" in entry)
        assert pins == {"python": "3.11", "pytorch": lock(repository)["torch"]}
        pinned = {PINNED.match(entry)[1]: PINNED.match(entry)[2] for entry in pip}
        assert pinned == {package: lock(repository)[package] for package in pinned}
        assert needed_to_run(repository) <= set(pinned) | {"torch"}
        assert (repository / f"envs/{name}.post-deploy.sh").exists()


def test_this_environment_is_the_locked_one(repository):
    for name in declared(repository):
        assert metadata.version(name).split("+")[0] == lock(repository)[name]

"""What the README tells people to type is what continuous integration types."""

from pathlib import Path

ROOT = Path(__file__).parents[1]


def commands() -> list[str]:
    blocks = (ROOT / "README.md").read_text().split("```sh\n")[1:]
    return [line for block in blocks for line in block.split("```")[0].strip().splitlines()]


def test_continuous_integration_runs_the_readmes_test_command():
    (test_command,) = [line for line in commands() if "pytest" in line]
    assert test_command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_main_job_is_one_command_with_the_tested_versions():
    main = commands()[0]
    assert main.startswith("python3 -m venv")
    assert '-c constraints.txt -e ".[report]"' in main
    assert main.endswith("stability quickstart")


def test_every_constraint_is_pinned_and_covers_the_dependencies():
    import tomllib

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pinned = {line.partition("==")[0].lower() for line in lines}
    assert all("==" in line for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"]["report"],
        *project["optional-dependencies"]["images"],
    ]
    assert {name.partition(">")[0].lower() for name in wanted} <= pinned
    assert "torch==2.13.0" in lines


def test_documented_specifications_are_valid_and_mention_every_key():
    import yaml

    from stability.sweeps import searches
    from stability.sweeps.families import OWN
    from stability.sweeps.learning import TrainingSpec
    from stability.sweeps.models import CKNSpec, CNNSpec, LeNetSpec, ModuleSpec
    from stability.sweeps.parts import ImagesSpec
    from stability.sweeps.spec import SweepSpec

    text = (ROOT / "docs" / "spec.md").read_text()
    blocks = [yaml.safe_load(block.split("```")[0]) for block in text.split("```yaml\n")[1:]]
    spec = SweepSpec(**blocks[0])
    assert len(spec.architectures()) == 6
    assert set(blocks[0]) == set(SweepSpec.model_fields)
    modules = SweepSpec(**blocks[1])
    assert modules == SweepSpec(**{key: value for key, value in blocks[1].items() if key != "deformations"})
    for part in (
        CKNSpec,
        CNNSpec,
        *OWN,
        ImagesSpec,
        LeNetSpec,
        ModuleSpec,
        TrainingSpec,
        searches.SearchSpec,
        searches.TranslationsSpace,
        searches.RigidMotionsSpace,
        searches.LinearisedStartSpec,
        searches.FixedBorderSpec,
    ):
        missing = [name for name in part.model_fields if name not in text]
        assert missing == []

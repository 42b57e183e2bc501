import json
from typing import get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from gazepipe.common.settings import Settings
from gazepipe.config import load as config
from gazepipe.config.reference import PAGE, SCHEMA, reference, schema
from gazepipe.config.schema import Config
from gazepipe.errors import UserError


def blocks_in(annotation: object) -> set[type[BaseModel]]:
    """The typed blocks in an annotation and below them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        inner = (blocks_in(field.annotation) for field in annotation.model_fields.values())
        return {annotation}.union(*inner)
    return set().union(*map(blocks_in, get_args(annotation)))


@pytest.fixture
def validator() -> jsonschema.Draft202012Validator:
    made = json.loads(schema())
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize(("path", "made"), [(PAGE, reference), (SCHEMA, schema)])
def test_what_is_written_of_the_keys_is_what_the_code_says(repository, path, made):
    written = (repository / path).read_text(encoding="utf-8")
    assert written == made(), "run python -m gazepipe.config.reference"


def test_every_key_has_a_description_and_every_block_says_what_it_is_for():
    blocks = blocks_in(Config)
    assert len(blocks) > 25
    for block in blocks:
        assert issubclass(block, Settings)
        assert block.__doc__, block
        for key, field in block.model_fields.items():
            assert field.description, f"{block.__name__}.{key}: write what it means under the field"
            assert field.description.endswith("."), f"{block.__name__}.{key}"


def test_every_description_is_in_the_page(repository):
    page = (repository / PAGE).read_text(encoding="utf-8")
    for block in blocks_in(Config):
        for field in block.model_fields.values():
            assert " ".join(field.description.split()) in page


def test_the_files_validate_and_name_the_schema(repository, validator):
    files = [repository / "config.yaml", *sorted((repository / "config").glob("*.yaml"))]
    assert len(files) > 3
    for path in files:
        first = path.read_text(encoding="utf-8").splitlines()[0]
        mark, _, place = first.partition("$schema=")
        assert mark == "# yaml-language-server: "
        assert (path.parent / place).resolve() == (repository / SCHEMA).resolve()
        validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "overlay",
    [
        {"trainng": {}},
        {"training": {"epochs": 0}},
        {"methods": {"base": {"training": {"epoch": 3}}}},
        {"datasets": {"columbia-drawn": {"augmentation": {"flip": 1}}}},
        {"datasets": {"a b": {}}},
        {"models": {"resnet18": {"width": "half"}}},
        {"methods": {"half": {"structural": {"scope": "globl"}}}},
    ],
)
def test_the_schema_refuses_what_loading_refuses(repository, validator, overlay):
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(overlay)
    with pytest.raises(UserError):
        config.load(config.merged(config.read(repository / "config.yaml"), overlay))


@pytest.mark.parametrize(
    "overlay", [{}, {"benchmark": {"seeds": [1]}}, {"methods": {"half": {"structural": {"ratio": 0.3}}}}]
)
def test_a_file_may_hold_single_keys(validator, overlay):
    validator.validate(overlay)

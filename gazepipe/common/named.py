"""Modules that are loaded by name, where they are used: source fingerprints follow import statements."""


def module_of(package: str, name: str) -> str:
    """The module of a package that goes by `name`, whose dashes are underscores there."""
    return f"{package}.{name.replace('-', '_')}"

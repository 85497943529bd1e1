"""YAML in which a mistake cannot hide. Imported where a file is read, for its cost."""

import yaml


class StrictLoader(yaml.SafeLoader):
    """YAML in which a key may stand only once: the last one winning hides mistakes."""


def _mapping_without_twins(
    loader: StrictLoader, node: yaml.MappingNode
) -> dict[object, object]:
    seen: set[object] = set()
    for key_node, _ in node.value:
        key = key_node.value
        if not isinstance(key, str):
            continue  # a list or a mapping as key; refused below as unhashable
        if key in seen:
            raise yaml.constructor.ConstructorError(
                problem=f"{key!r} stands here a second time",
                problem_mark=key_node.start_mark,
            )
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


StrictLoader.add_constructor("tag:yaml.org,2002:map", _mapping_without_twins)

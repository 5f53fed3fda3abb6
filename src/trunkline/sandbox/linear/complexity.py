"""What a query costs, as the service counts it: 1 an object, 0.1 a value, a connection's inside times its page."""

import math
from collections.abc import Mapping
from typing import Any, cast

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_named_type,
)

from trunkline.sandbox.linear.listing import DEFAULT_PAGE

MAX_COMPLEXITY = 10_000


def complexity(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: OperationDefinitionNode,
    variables: Mapping[str, Any],
) -> int:
    """Return the points of one operation of a valid document."""
    fragments = {
        one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)
    }

    def inside(selections: SelectionSetNode | None, parent: GraphQLObjectType) -> float:
        total = 0.0
        for node in selections.selections if selections else ():
            if isinstance(node, FieldNode):
                total += field(node, parent)
            elif isinstance(node, FragmentSpreadNode):
                total += inside(fragments[node.name.value].selection_set, parent)
            elif isinstance(node, InlineFragmentNode):
                total += inside(node.selection_set, parent)
        return total

    def field(node: FieldNode, parent: GraphQLObjectType) -> float:
        if node.name.value.startswith("__"):
            return 0.1
        kind = get_named_type(parent.fields[node.name.value].type)
        if not isinstance(kind, GraphQLObjectType):
            return 0.1
        size = _page(node, variables) if kind.name.endswith("Connection") else 1
        return 1 + size * inside(node.selection_set, kind)

    root = schema.get_root_type(operation.operation)
    return math.ceil(inside(operation.selection_set, cast("GraphQLObjectType", root)))


def _page(node: FieldNode, variables: Mapping[str, Any]) -> int:
    for argument in node.arguments or ():
        if argument.name.value in {"first", "last"}:
            size: Any = None
            if isinstance(argument.value, VariableNode):
                size = variables.get(argument.value.name.value)
            elif isinstance(argument.value, IntValueNode):
                size = int(argument.value.value)
            return size if isinstance(size, int) else DEFAULT_PAGE
    return DEFAULT_PAGE

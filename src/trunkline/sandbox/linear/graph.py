"""Run a GraphQL request over the workspace: validation, complexity, filters, sorting, connections, mutations."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLResolveInfo,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    execute,
    get_named_type,
    get_operation_ast,
    parse,
    validate,
)

from trunkline.sandbox.linear.complexity import MAX_COMPLEXITY, complexity
from trunkline.sandbox.linear.listing import connection, living
from trunkline.sandbox.linear.workspace import PRIORITIES, Record, Workspace

_KINDS = {"users": "User", "teams": "Team", "workflowStates": "WorkflowState", "issueLabels": "IssueLabel"}
_KINDS |= {"projects": "Project", "issues": "Issue"}


@cache
def _schema() -> GraphQLSchema:
    return build_schema(Path(__file__).with_name("schema.graphql").read_text(encoding="utf-8"))


class RefusedRequestError(Exception):
    """A request that is not run at all, answered 400."""

    def __init__(self, code: str, errors: list[GraphQLError]) -> None:
        self.code = code
        self.errors = errors
        super().__init__(code)


class Graph:
    """The schema over one workspace."""

    def __init__(self) -> None:
        self._schema = _schema()

    def run(
        self, workspace: Workspace, query: str, variables: dict[str, Any] | None, operation: str | None
    ) -> tuple[ExecutionResult, int]:
        """Return the result and its complexity (raises RefusedRequestError)."""
        document, cost = self._checked(query, variables or {}, operation)
        chosen = cast("OperationDefinitionNode", get_operation_ast(document, operation))
        root: Any = _mutation(workspace) if chosen.operation.value == "mutation" else _query(workspace)
        result = execute(
            self._schema,
            document,
            root,
            variable_values=variables,
            operation_name=operation,
            field_resolver=_resolver(workspace),
        )
        done = cast("ExecutionResult", result)
        if done.data is None and done.errors and not any(error.path for error in done.errors):
            raise RefusedRequestError("BAD_USER_INPUT", done.errors)
        return done, cost

    def _checked(self, query: str, variables: Record, operation: str | None) -> tuple[DocumentNode, int]:
        try:
            document = parse(query)
            if errors := validate(self._schema, document):
                raise RefusedRequestError("GRAPHQL_VALIDATION_FAILED", errors)
            chosen = get_operation_ast(document, operation)
            if chosen is None:
                text = "Must provide the name of one of the operations."
                raise RefusedRequestError("OPERATION_RESOLUTION_FAILURE", [GraphQLError(text)])
            cost = complexity(self._schema, document, chosen, variables)
        except GraphQLError as error:
            raise RefusedRequestError("GRAPHQL_PARSE_FAILED", [error]) from error
        except RecursionError as error:
            raise RefusedRequestError("INPUT_ERROR", [GraphQLError("Query is too deep")]) from error
        if cost > MAX_COMPLEXITY:
            raise RefusedRequestError("INPUT_ERROR", [GraphQLError(f"Query too complex: {cost} points")])
        return document, cost


def _resolver(workspace: Workspace) -> Callable[..., Any]:
    def resolve(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        name, parent = info.field_name, info.parent_type.name
        if parent == "Team" and name not in source:
            return _of_team(workspace, source, name, arguments)
        if parent == "User" and name == "assignedIssues":
            mine = [one for one in workspace.all("issues") if one["assignee"] is source]
            return connection(mine, arguments)
        if parent == "Issue" and name == "labelIds":
            return [label["id"] for label in source["labels"]]
        if parent == "Issue" and name == "priorityLabel":
            return PRIORITIES[source["priority"]]
        value = source[name]
        if callable(value):
            return value(**arguments)
        if get_named_type(info.return_type).name.endswith("Connection"):
            return connection(value, arguments)
        return value

    return resolve


def _of_team(workspace: Workspace, team: Record, name: str, arguments: Record) -> Any:
    if name in {"issues", "issueCount"}:
        own = [one for one in workspace.all("issues") if one["team"] is team]
        return connection(own, arguments) if name == "issues" else len(living(own, arguments))
    if name in {"states", "labels"}:
        collection = {"states": "workflowStates", "labels": "issueLabels"}[name]
        return connection([one for one in workspace.all(collection) if one["team"] is team], arguments)
    return connection(workspace.all({"members": "users"}.get(name, name)), arguments)


def _query(workspace: Workspace) -> Record:
    root: Record = {"viewer": workspace.viewer, "organization": workspace.organization}
    for collection, kind in _KINDS.items():
        root[collection] = workspace.all(collection)
        root[kind[0].lower() + kind[1:]] = _one(workspace, collection, kind)
    return root


def _one(workspace: Workspace, collection: str, kind: str) -> Callable[..., Record]:
    def get(id: str) -> Record:
        return workspace.get(collection, id, kind)

    return get


def _mutation(workspace: Workspace) -> Record:
    def done(**made: Any) -> Record:
        return {"lastSyncId": 1, "success": True, **made}

    def create(input: Record) -> Record:
        return done(issue=workspace.create_issue(input))

    def update(id: str, input: Record) -> Record:
        issue = workspace.get("issues", id, "Issue")
        workspace.update_issue(issue, input)
        return done(issue=issue)

    def archive(id: str, **_: Any) -> Record:
        issue = workspace.get("issues", id, "Issue")
        workspace.archive_issue(issue)
        return done(entity=issue)

    def label(input: Record, **_: Any) -> Record:
        return done(issueLabel=workspace.create_label(input))

    def comment(input: Record) -> Record:
        return done(comment=workspace.create_comment(input))

    return {
        "issueCreate": create,
        "issueUpdate": update,
        "issueArchive": archive,
        "issueLabelCreate": label,
        "commentCreate": comment,
    }

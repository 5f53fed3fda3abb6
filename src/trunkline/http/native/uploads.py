"""`/v1/{workspace_id}/uploads…`: files of records, checked, mapped, taken in as a version."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field

from trunkline.http.native.route import Call, Router
from trunkline.services import uploads
from trunkline.services.progress import Run
from trunkline.services.upload_files import MAX_FILES, File
from trunkline.services.uploads import Upload

router = Router("Uploads")
_NOT_FOUND = {404: "Upload not found."}
_TAKEN = {409: "It was taken in already."}


def _uuid(given: Any) -> Any:
    return UUID(given) if isinstance(given, str) else given


class UploadFile(BaseModel):
    """One file, as text or in base64."""

    filename: Annotated[str, Field(min_length=1, max_length=255)] = Field(
        description="Ends in .json, .jsonl, .ndjson, .csv or .tsv"
    )
    content: str
    encoding: Literal["text", "base64"] = "text"


class UploadRequest(BaseModel):
    """Files of records, for one dataset."""

    dataset_id: Annotated[UUID, BeforeValidator(_uuid)] | None = Field(
        None, description="Default: the workspace's knowledge base"
    )
    files: Annotated[list[UploadFile], Field(min_length=1, max_length=MAX_FILES)]


class MapRequest(BaseModel):
    """Which field of the files is which field of a record."""

    mapping: Annotated[dict[str, Annotated[str, Field(max_length=200)]], Field(max_length=500)]


class IngestRequest(BaseModel):
    """What to remember of the version."""

    notes: Annotated[str, Field(max_length=2_000)] | None = None


class FileResponse(BaseModel):
    """A file that was read."""

    filename: str
    size: int
    rows: int


class ProblemResponse(BaseModel):
    """What is wrong, and where; without a row it is the whole file."""

    file: str
    row: int | None
    field: str | None
    message: str
    value: Any


class ReportResponse(BaseModel):
    """What checking found; the first 1,000 problems are shown."""

    status: Literal["validated", "has_errors"]
    total_records: int
    valid_count: int
    error_count: int
    duplicate_count: int
    errors: list[ProblemResponse]
    preview: list[dict[str, Any]]
    file_fields: list[str]
    mapping: dict[str, str] = Field(description="In effect: also what names tell by themselves")


class UploadResponse(BaseModel):
    """An upload and how far it has come."""

    id: UUID
    dataset_id: UUID | None
    status: Literal["uploaded", "validated", "has_errors", "ingesting", "ingested"]
    files: list[FileResponse]
    mapping: dict[str, str] = Field(description="As it was given")
    report: ReportResponse | None
    run_id: UUID | None
    created_at: datetime


class IngestResponse(BaseModel):
    """The run that takes the upload in."""

    run_id: UUID
    dataset_id: UUID


@router.answers(
    "POST /v1/{workspace_id}/uploads",
    "Dataset.update",
    status=201,
    returns=UploadResponse,
    errors={404: "Dataset not found."},
    is_upload=True,
)
async def create_upload(call: Call, workspace_id: UUID, body: UploadRequest) -> Upload:
    """Keep files of records for checking: JSON, JSON Lines or CSV, at most 100,000 rows together."""
    files = [File(file.filename, file.content, file.encoding) for file in body.files]
    made, _ = await uploads.create(call, files, str(body.dataset_id) if body.dataset_id else None)
    return made


@router.answers(
    "GET /v1/{workspace_id}/uploads/{upload_id}", "Dataset.view", returns=UploadResponse, errors=_NOT_FOUND
)
async def get_upload(call: Call, workspace_id: UUID, upload_id: UUID) -> Upload:
    """Show an upload."""
    return await uploads.get(call, str(upload_id))


@router.answers(
    "POST /v1/{workspace_id}/uploads/{upload_id}/validate",
    "Dataset.update",
    returns=UploadResponse,
    errors=_NOT_FOUND | _TAKEN,
)
async def validate_upload(call: Call, workspace_id: UUID, upload_id: UUID) -> Upload:
    """Check every row; what is wrong is in `report`."""
    return await uploads.validate(call, str(upload_id))


@router.answers(
    "POST /v1/{workspace_id}/uploads/{upload_id}/map",
    "Dataset.update",
    returns=UploadResponse,
    errors=_NOT_FOUND | _TAKEN,
)
async def map_upload(call: Call, workspace_id: UUID, upload_id: UUID, body: MapRequest) -> Upload:
    """Check every row again, with other names for its fields."""
    return await uploads.validate(call, str(upload_id), body.mapping)


@router.answers(
    "POST /v1/{workspace_id}/uploads/{upload_id}/ingest",
    "Dataset.sync",
    status=202,
    returns=IngestResponse,
    errors=_NOT_FOUND | {409: "It is not checked, has no valid row, or a run is under way."},
)
async def ingest_upload(
    call: Call, workspace_id: UUID, upload_id: UUID, body: IngestRequest
) -> dict[str, Any]:
    """Begin to take the valid rows in as a version; the others go to the quarantine."""
    run: Run = await uploads.ingest(call, str(upload_id), body.notes)
    return {"run_id": run.id, "dataset_id": (await uploads.get(call, str(upload_id))).dataset_id}

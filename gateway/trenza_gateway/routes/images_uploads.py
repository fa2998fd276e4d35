"""The pictures of a form: which ones there must be, and the messages in which they travel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from trenza.common.v1 import common_pb2
from trenza.images.v1 import images_pb2

from trenza_gateway.openai.errors import bad_request
from trenza_gateway.uploads import Form, FormFile

IMAGE = "image"
MASK = "mask"
MARKUP = "markup"
MAX_IMAGES = 16

_ROLES = {IMAGE: images_pb2.IMAGE_ROLE_SOURCE, MASK: images_pb2.IMAGE_ROLE_MASK}


@dataclass(frozen=True, slots=True)
class Given:
    """The pictures to redraw, the mask where there is one, and the names of files that are not wanted here."""

    images: Sequence[FormFile]
    mask: FormFile | None
    ignored: Sequence[str]

    async def chunks(self) -> AsyncIterator[images_pb2.UploadChunk]:
        """The pieces of all pictures, the mask last. May be asked for again."""
        files = [(IMAGE, file) for file in self.images]
        if self.mask is not None:
            files.append((MASK, self.mask))
        for index, (role, file) in enumerate(files):
            first = True
            async for data in file.chunks():
                chunk = images_pb2.UploadChunk(index=index, data=data)
                if first:
                    chunk.role = _ROLES[role]
                    chunk.media.CopyFrom(_media(file))
                    first = False
                yield chunk


def given_pictures(form: Form, with_mask: bool) -> Given:
    """The pictures of a form: several, and a mask perhaps, or else one. Raises a 400 ApiError that names what is wrong."""
    images = _files(form, IMAGE, MAX_IMAGES if with_mask else 1)
    if not images:
        raise bad_request("Missing required field: 'image'.", param=IMAGE, code="missing_required_parameter")
    if MARKUP in form.files:
        message = "Unsupported value for 'markup': no model served here reads marks on a picture; use `mask`."
        raise bad_request(message, param=MARKUP, code="unsupported_value")
    wanted = (IMAGE, MASK) if with_mask else (IMAGE,)
    masks = _files(form, MASK, 1) if with_mask else []
    return Given(
        images, next(iter(masks), None), [name for name in form.files if name.removesuffix("[]") not in wanted]
    )


def _files(form: Form, name: str, most: int) -> list[FormFile]:
    """The files of that name. OpenAI's clients write several as `image[]`."""
    names = (name, f"{name}[]")
    if any(text for one in names for text in form.fields.get(one, ())):
        raise bad_request(f"'{name}' must be a file, with a file name.", param=name, code="invalid_value")
    files = [file for one in names for file in form.files.get(one, ())]
    if len(files) > most:
        raise bad_request(f"There may be {most} of '{name}' at most.", param=name, code="invalid_value")
    if not all(file.size_bytes for file in files):
        raise bad_request(f"A file of '{name}' is empty.", param=name, code="invalid_value")
    return files


def _media(file: FormFile) -> common_pb2.MediaDescription:
    return common_pb2.MediaDescription(media_type=file.media_type, file_name=file.name, size_bytes=file.size_bytes)

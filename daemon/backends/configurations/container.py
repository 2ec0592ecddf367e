"""Jobs in containers of docker, podman or apptainer."""

import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from daemon.backends.configurations.base import BackendConfig, folder_problems
from daemon.backends.configurations.fields import Line, Memory, Number, Variables, one_line
from daemon.backends.configurations.managers import ManagerClass, manager_at

_PART = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:localhost|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+|[A-Za-z0-9.-]+:\d+)"
_IMAGE = re.compile(
    rf"(?:{_DOMAIN}(?::\d+)?/)?{_PART}(?:/{_PART})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_APPTAINER = re.compile(
    r"(docker|oras|library|shub|docker-archive|oci)://\S+|/\S.*\.(sif|simg|img)"
)
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_MODES = frozenset({"ro", "rw", "z", "Z"})


class Volume(NamedTuple):
    """A folder or file of the host in the container; `mode` as docker has it, as "ro" or "rw,Z"."""

    host: Path
    container: PurePosixPath
    mode: str


def volume_of(text: str) -> Volume:
    """Return what `host:container[:mode]` says. Raises ValueError."""
    parts = text.split(":")
    if len(parts) < 2:
        raise ValueError(
            f"Volume mount must contain ':' separator: host:container[:mode], not {text}"
        )
    if len(parts) > 3:
        raise ValueError(f"a volume is host:container[:mode]; {text} has too many parts")
    host, container, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else "rw"
    if not host.startswith(("/", "./", "../")):
        raise ValueError(f"the host's part of {text} must be a path, as /data or ./data")
    if not container.startswith("/") or ".." in PurePosixPath(container).parts:
        raise ValueError(f"the container's part of {text} must be an absolute path")
    words = mode.split(",")
    if not set(words) <= _MODES or {"ro", "rw"} <= set(words) or len(set(words)) < len(words):
        raise ValueError(
            f"the mode of {text} must be ro or rw, with z or Z where labels are needed"
        )
    return Volume(Path(host), PurePosixPath(container), mode)


def _volume(text: str) -> str:
    volume_of(one_line(text))
    return text


def _user(text: str) -> str:
    if _USER.fullmatch(text) is None:
        raise ValueError("must be a user or user:group, by name or number")
    return text


def _dockerfile(text: str) -> str:
    if text.startswith("/"):
        raise ValueError("Dockerfile path must be relative to build context")
    if ".." in PurePosixPath(text).parts:
        raise ValueError("Dockerfile path must be inside the build context: without ..")
    return text


class ContainerConfig(BackendConfig):
    """Jobs in containers; our own code is brought in, so that any scientific image will do."""

    COMMAND_FIELDS = ("executable", "mpiexec")
    PATH_FIELDS: ClassVar[tuple[str, ...]] = ("working_dir", "build_context")
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "container",
                    "engine": "podman",
                    "image": "registry.example.org/science/python:3.12",
                    "cpu": 4,
                    "memory": "8g",
                    "volumes": ["/data/masks:/masks:ro"],
                },
                {
                    "type": "container",
                    "dockerfile": "Dockerfile",
                    "build_context": "./image",
                    "build_args": {"VERSION": "2.1.0"},
                },
            ]
        }
    )

    type: Literal["container"] = "container"
    engine: Literal["docker", "podman", "apptainer"] = Field(
        "docker", description="the program that runs containers"
    )
    image: Line | None = Field(
        None, description="image, as name:tag or name@sha256:…; or dockerfile, not both"
    )
    dockerfile: Annotated[Line, AfterValidator(_dockerfile)] | None = Field(
        None, description="Dockerfile to build the image from, relative to build_context"
    )
    build_context: Line | None = Field(
        None, description="folder to build from; the Dockerfile's own when not given"
    )
    build_args: Variables = Field(default_factory=dict, description="arguments of the Dockerfile")
    cpu: Number = Field(1, ge=1, le=128, description="cores that a job may use")
    memory: Memory | None = Field(
        None, description="memory that a job may use, as 2g or 512m; all there is when not given"
    )
    volumes: list[Annotated[Line, AfterValidator(_volume)]] = Field(
        default_factory=list, description="folders of the host, as host:container[:ro]"
    )
    user: Annotated[Line, AfterValidator(_user)] | None = Field(
        None, description="user in the container, as name or 1000:1000; the daemon's when not given"
    )
    remove_container: bool = Field(True, description="remove the container when the job has ended")
    python: Line = Field("python3", description="the image's Python for the context file")
    executable: Line = Field(
        "/usr/local/bin/run.sh", description="what a job with a command of its own executes"
    )
    mpiexec: Annotated[str, Field(strict=True)] = Field(
        "", description="put before executable, as mpirun; -n and the cores follow unless given"
    )

    @classmethod
    def manager_class(cls) -> ManagerClass:
        """The manager for containers of all engines."""
        return manager_at("container", "ContainerManager")

    @field_validator("mpiexec")
    @classmethod
    def _mpiexec(cls, value: str) -> str:
        return one_line(value) if value else value

    @model_validator(mode="after")
    def _one_image(self) -> Self:
        if self.image is None and self.dockerfile is None:
            raise ValueError("Either 'image' or 'dockerfile' must be provided")
        if self.image is not None and self.dockerfile is not None:
            raise ValueError("Cannot specify both 'image' and 'dockerfile'")
        if self.dockerfile is None and (self.build_context or self.build_args):
            raise ValueError("build_context and build_args need a dockerfile")
        if self.dockerfile is not None and self.engine == "apptainer":
            raise ValueError("apptainer builds nothing from a dockerfile: give the image")
        image, is_file = self.image, self.engine == "apptainer"
        if image is not None and not (
            _IMAGE.fullmatch(image) or (is_file and _APPTAINER.fullmatch(image))
        ):
            forms = ", docker://name:tag or an absolute path of a .sif file" if is_file else ""
            raise ValueError(
                f"image: {image!r} is none: name[:tag][@sha256:…] in small letters{forms}"
            )
        return self

    def mounts(self) -> list[Volume]:
        """The volumes, taken apart."""
        return [volume_of(text) for text in self.volumes]

    def build_from(self) -> tuple[Path, Path] | None:
        """The Dockerfile and the folder to build from; None when an image is given.

        A Dockerfile is looked for below the build context, and where the context itself is when
        its path names the context's folder too.
        """
        if self.dockerfile is None:
            return None
        if self.build_context is None:
            return Path(self.dockerfile), Path(self.dockerfile).parent
        context = Path(self.build_context)
        within, beside = context / self.dockerfile, context.parent / self.dockerfile
        if not within.is_file() and beside.is_file() and beside.is_relative_to(context):
            return beside, context
        return within, context

    def located(self, folder: Path) -> Self:
        """With relative paths made absolute: those of volumes and of what is built, too."""
        update: dict[str, object] = {}
        if self.dockerfile is not None and self.build_context is None:
            path = folder / self.dockerfile
            update |= {"build_context": str(path.parent), "dockerfile": path.name}
        update["volumes"] = [
            ":".join([str(folder / v.host), *text.split(":")[1:]])
            for text, v in zip(self.volumes, self.mounts(), strict=True)
        ]
        return super().located(folder).model_copy(update=update)

    def check_host(self) -> list[str]:
        """Besides what all check: the engine, what is built from, and the hosts' paths."""
        problems = super().check_host()
        if shutil.which(self.engine) is None:
            problems.append(f"{self.engine} is not on PATH: install it, or choose another engine")
        build = self.build_from()
        if build is not None:
            wrong = folder_problems("Build context", build[1])
            if not wrong and not build[0].is_file():
                wrong = [f"Dockerfile does not exist: {build[0]}"]
            problems += wrong
        for volume in self.mounts():
            if not volume.host.exists():
                problems.append(f"Host path does not exist: {volume.host}")
        return problems


class DockerConfig(ContainerConfig):
    """Jobs in containers of docker: `container` with that engine."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"type": "docker", "image": "swan:latest", "cpu": 4, "memory": "2g"}]
        }
    )

    type: Literal["docker"] = "docker"  # type: ignore[assignment]
    engine: Literal["docker"] = Field(
        "docker", description="the program that runs containers; `container` has others"
    )

"""Writes what the platform is made of as a CycloneDX document: `python scripts/sbom.py FILE`.

Python packages with the hashes that they are installed by, the viewer from npm, and the images of
docker-compose.yml and the Dockerfile.
"""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import OutputFormat, make_outputter
from cyclonedx.schema import SchemaVersion
from packageurl import PackageURL
from pip_requirements_parser import RequirementsFile

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from demo import ohif_install  # noqa: E402 - it lies beside this folder
from pacs import __version__  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

_IMAGE = re.compile(r"^(?:ARG [A-Z_]+IMAGE=|\s*image: )([a-z0-9./-]+):([A-Za-z0-9._-]+)$", re.MULTILINE)


def components() -> Iterator[Component]:
    """Everything that an installation fetches from elsewhere."""
    yield from _packages()
    yield _viewer()
    yield from _images()


def _packages() -> Iterator[Component]:
    for each in RequirementsFile.from_file(str(ROOT / "requirements.txt")).requirements:
        [pinned] = [specifier.version for specifier in each.specifier if specifier.operator == "=="]
        hashes = [_sha256(text) for text in each.hash_options]
        yield _component(
            PackageURL("pypi", None, each.name, pinned), f"https://pypi.org/project/{each.name}/", hashes
        )


def _sha256(text: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=text.removeprefix("sha256:"))


def _viewer() -> Component:
    namespace, _, name = ohif_install.PACKAGE.partition("/")
    digest = base64.b64decode(ohif_install.INTEGRITY.removeprefix("sha512-")).hex()
    return _component(
        PackageURL("npm", namespace, name, ohif_install.VERSION),
        f"https://www.npmjs.com/package/{ohif_install.PACKAGE}",
        [HashType(alg=HashAlgorithm.SHA_512, content=digest)],
    )


def _images() -> Iterator[Component]:
    texts = (ROOT / name for name in ("docker-compose.yml", "Dockerfile"))
    named = {match.groups() for text in texts for match in _IMAGE.finditer(text.read_text(encoding="utf-8"))}
    for image, tag in sorted(named):
        # Docker's own registry is the one that needs no name.
        namespace, _, name = (image if "." in image else f"docker.io/{image}").rpartition("/")
        purl = PackageURL("docker", namespace, name, tag)
        yield _component(purl, f"{namespace}/{name}", [], kind=ComponentType.CONTAINER)


def _component(
    purl: PackageURL, where: str, hashes: list[HashType], kind: ComponentType = ComponentType.LIBRARY
) -> Component:
    origin = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(where), hashes=hashes)
    return Component(
        type=kind,
        bom_ref=purl.to_string(),
        group=purl.namespace,
        name=purl.name,
        version=purl.version,
        purl=purl,
        external_references=[origin],
    )


def document() -> str:
    """The whole of it, version 1.6, as JSON."""
    bom = Bom(components=components())
    bom.metadata.component = Component(type=ComponentType.APPLICATION, name="clinicpacs", version=__version__)
    bom.register_dependency(bom.metadata.component, bom.components)
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(document(), encoding="utf-8")
    print(f"written to {target}")

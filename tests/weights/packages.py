"""Debian packages as `dpkg-deb` builds them: an ar archive around two tarballs."""

import io
import tarfile


def ar(members):
    """An ar archive of names and contents."""
    out = b"!<arch>\n"
    for name, content in members:
        out += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}".encode() + b"`\n"
        out += content + b"\n" * (len(content) % 2)
    return out


def tarball(files, compression):
    """A tarball with a folder and these files in it, their paths beginning with ./ as in every package."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}") as tar:
        folder = tarfile.TarInfo("./usr")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for path, content in files.items():
            member = tarfile.TarInfo(f"./{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def package(files, compression="xz"):
    """A package of these files; the first of its small members is of odd length."""
    ending = f".{compression}" if compression else ""
    control = tarball({"control": b"Package: fake\n"}, "gz")
    return ar(
        [
            ("debian-binary", b"2.0"),
            ("control.tar.gz", control),
            (f"data.tar{ending}", tarball(files, compression)),
            ("_gpgbuilder", b"not ours"),
        ]
    )

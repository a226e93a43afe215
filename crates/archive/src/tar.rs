//! The part of the tar format (ustar, POSIX.1-1988) that an archive of a project needs: regular files with short names. A
//! size that ustar cannot tell has the form that GNU tar gives it.

use thiserror::Error;

/// The first size that the octal digits of a header cannot tell: 8 GiB.
const LARGE: u64 = 1 << 33;
/// The first byte of a size in GNU's form for large numbers: the other bytes of the field are the number in binary.
const BINARY: u8 = 0x80;
/// The size of a header. File contents are padded to a multiple of it.
const BLOCK: usize = 512;
/// The most entries of an archive that is read.
const MAX_ENTRIES: usize = 200_000;
/// The end of an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// A regular file in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// The path in the archive.
    pub(crate) name: &'a str,
    /// The contents.
    pub(crate) bytes: &'a [u8],
}

/// The reason why an archive cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TarError {
    /// The archive ends early.
    #[error("it is cut off")]
    CutOff,
    /// A header is damaged, or the bytes are not a header.
    #[error("a header is damaged")]
    Damaged,
    /// An entry is a link, a device or another thing that is not a file.
    #[error("it has an entry that is not a regular file")]
    NotAFile,
    /// The archive has too many entries.
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// The header of a file of this length; `None` if the name is too long.
pub(crate) fn header(name: &str, length: u64) -> Option<Vec<u8>> {
    let mut header = vec![0; BLOCK];
    if name.len() > 100 {
        return None;
    }
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if length < LARGE {
        put(124, format!("{length:011o}\0").as_bytes());
    } else {
        put(124, &[BINARY]);
        put(128, &length.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum = checksum(&header);
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(header)
}

/// The bytes that follow the contents of a file of this length.
pub(crate) fn padding(length: u64) -> Vec<u8> {
    let over = usize::try_from(length % BLOCK as u64).unwrap_or(0);
    vec![0; (BLOCK - over) % BLOCK]
}

/// Reads all files of a whole archive. Folders, and the extended headers that some programs add, are skipped.
///
/// # Errors
/// If the archive is not whole, or has other entries than regular files.
pub(crate) fn read(archive: &[u8]) -> Result<Vec<Entry<'_>>, TarError> {
    let mut entries = Vec::new();
    let mut rest = archive;
    for _ in 0..MAX_ENTRIES {
        let (header, after) = rest.split_at_checked(BLOCK).ok_or(TarError::CutOff)?;
        if header.iter().all(|byte| *byte == 0) {
            let end = after.get(..BLOCK).ok_or(TarError::CutOff)?;
            let is_end = end.iter().all(|byte| *byte == 0);
            return if is_end {
                Ok(entries)
            } else {
                Err(TarError::Damaged)
            };
        }
        if octal(&header[148..156]) != Some(checksum(header)) {
            return Err(TarError::Damaged);
        }
        let length = size(&header[124..136]).ok_or(TarError::Damaged)?;
        let length = usize::try_from(length).map_err(|_| TarError::CutOff)?;
        let bytes = after.get(..length).ok_or(TarError::CutOff)?;
        let padded = length.checked_next_multiple_of(BLOCK);
        rest = padded
            .and_then(|padded| after.get(padded..))
            .ok_or(TarError::CutOff)?;
        match header[156] {
            b'0' | 0 => {
                let name = text(&header[..100]).ok_or(TarError::Damaged)?;
                let name = name.strip_prefix("./").unwrap_or(name);
                entries.push(Entry { name, bytes });
            }
            // A folder, or an extended header of the next file or of all files.
            b'5' | b'x' | b'g' => {}
            _ => return Err(TarError::NotAFile),
        }
    }
    Err(TarError::TooMany)
}

/// The sum of a header's bytes, with spaces in the place of the sum itself.
fn checksum(header: &[u8]) -> u64 {
    let spaces = 8 * u64::from(b' ');
    let (before, after) = (&header[..148], &header[156..]);
    let bytes = before.iter().chain(after);
    bytes.map(|byte| u64::from(*byte)).sum::<u64>() + spaces
}

/// Reads the size of a file: an octal number, or [binary](BINARY).
fn size(field: &[u8]) -> Option<u64> {
    let Some((&BINARY, binary)) = field.split_first() else {
        return octal(field);
    };
    let (above, number) = binary.split_last_chunk()?;
    let fits = above.iter().all(|byte| *byte == 0);
    fits.then(|| u64::from_be_bytes(*number))
}

/// Reads an octal number, which ends with a space or a zero byte.
fn octal(field: &[u8]) -> Option<u64> {
    u64::from_str_radix(text(field)?.trim(), 8).ok()
}

/// The text of a field, up to its first zero byte.
fn text(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0);
    std::str::from_utf8(&field[..end.unwrap_or(field.len())]).ok()
}

/// An archive of these files, for tests.
#[cfg(test)]
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, bytes) in files {
        archive.extend(header(name, bytes.len() as u64).unwrap());
        archive.extend_from_slice(bytes);
        archive.extend(padding(bytes.len() as u64));
    }
    archive.extend(END);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let long = [7; 513];
        let files: [(&str, &[u8]); 3] = [("a", b""), ("b/c.json", &[1; 512]), ("d", &long)];
        let archive = archive(&files);
        assert_eq!(archive.len() % BLOCK, 0);
        let read: Vec<_> = read(&archive).unwrap();
        let read: Vec<_> = read.iter().map(|entry| (entry.name, entry.bytes)).collect();
        assert_eq!(read, files);
        assert!(header(&"x".repeat(101), 0).is_none());
    }

    #[test]
    fn the_program_tar_reads_it_and_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        std::fs::write(&path, archive(&[("x/y", b"hello"), ("z", &[9; 700])])).unwrap();
        let tar = |arguments: &[&str]| {
            let mut command = std::process::Command::new("tar");
            let done = command.current_dir(folder.path()).args(arguments).output();
            let done = done.unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        tar(&["-xf", "a.tar"]);
        assert_eq!(std::fs::read(folder.path().join("x/y")).unwrap(), b"hello");
        tar(&["-cf", "b.tar", "./x", "z"]);
        let again = std::fs::read(folder.path().join("b.tar")).unwrap();
        let entries = read(&again).unwrap();
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["x/y", "z"]);
    }

    /// The fields are those that `tarfile.itn(length, 12, tarfile.GNU_FORMAT)` of Python makes.
    #[test]
    fn a_size_of_eight_gib_or_more_is_written_and_read_as_gnu_tar_does() {
        for (length, field) in [
            (LARGE - 1, b"77777777777\0"),
            (LARGE, b"\x80\0\0\0\0\0\0\x02\0\0\0\0"),
            (0x12_3456_7890, b"\x80\0\0\0\0\0\0\x12\x34\x56\x78\x90"),
            (u64::MAX, b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"),
        ] {
            let header = header("a", length).unwrap();
            assert_eq!(&header[124..136], field, "{length}");
            assert_eq!(size(field), Some(length));
            // The bytes do not follow, and the size is one that is understood.
            assert_eq!(read(&header), Err(TarError::CutOff), "{length}");
        }
        // A number of more than 64 bits, and a negative one.
        assert_eq!(size(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None);
        assert_eq!(size(&[0xff; 12]), None);
    }

    /// Without `python3` on the machine, the test above alone checks the form of large sizes.
    #[test]
    fn python_reads_a_large_size() {
        let header = header("assets/a", LARGE + 7).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("header");
        std::fs::write(&path, header).unwrap();
        let program = "import sys, tarfile\n\
            header = tarfile.TarInfo.frombuf(open(sys.argv[1], 'rb').read(), 'utf-8', 'strict')\n\
            print(header.name, header.size, header.isreg())";
        let mut python = std::process::Command::new("python3");
        let Ok(read) = python.arg("-c").arg(program).arg(&path).output() else {
            return;
        };
        let (told, errors) = (
            String::from_utf8_lossy(&read.stdout),
            String::from_utf8_lossy(&read.stderr),
        );
        assert_eq!(told.trim(), "assets/a 8589934599 True", "{errors}");
    }

    #[test]
    fn a_cut_or_changed_archive_is_refused() {
        let whole = archive(&[("a", b"hello"), ("b", &[1; 600])]);
        for length in (0..whole.len()).step_by(37) {
            assert_eq!(read(&whole[..length]), Err(TarError::CutOff), "{length}");
        }
        // The last byte of the sum's field comes after the end of the number.
        for at in (0..BLOCK).filter(|at| *at != 155) {
            let mut changed = whole.clone();
            changed[at] ^= 0x11;
            assert!(read(&changed).is_err(), "byte {at}");
        }
        let mut link = whole.clone();
        link[156] = b'2';
        let sum = checksum(&link[..BLOCK]);
        link[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(read(&link), Err(TarError::NotAFile));
        // A size that is larger than any archive.
        let mut large = whole;
        large[124..136].copy_from_slice(b"77777777777\0");
        let sum = checksum(&large[..BLOCK]);
        large[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(read(&large), Err(TarError::CutOff));
    }
}

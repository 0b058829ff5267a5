//! Writes files so that a reader finds the old file or the new one, never a part: to a temporary file in the same folder,
//! which is then renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Most symbolic links that are followed one after the other; Linux follows as many.
const MAX_LINKS: usize = 40;

/// What a path leads to through symbolic links.
enum Target {
    /// A file, or none yet: a rename to this path replaces the file and leaves the links.
    File(PathBuf),
    /// A device, a pipe or a file that a process has open (`/dev/stdout`): what is there is opened and written to.
    InPlace,
}

/// Whether a path names a folder by its form, as `name/` and `..` do.
fn names_folder(path: &Path) -> bool {
    let text = path.to_string_lossy();
    path.file_name().is_none() || text.ends_with(std::path::is_separator) || text.ends_with("/.")
}

/// Follows the links of a path to what it leads to. An error where that is a folder.
fn target_of(path: &Path) -> io::Result<Target> {
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        if names_folder(&target) {
            return Err(io::Error::other("the name of a folder, not of a file"));
        }
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() => {
                let folder = folder_of(&target);
                // A link of the file system `proc`, such as `/proc/self/fd/1`, leads to an open file, not to the path that it
                // shows.
                if fs::canonicalize(folder).is_ok_and(|folder| folder.starts_with("/proc")) {
                    break;
                }
                target = folder.join(fs::read_link(&target)?);
            }
            Ok(metadata) if metadata.is_dir() => return Err(io::Error::other("a folder has this name")),
            Ok(metadata) if !metadata.is_file() => return Ok(Target::InPlace),
            _ => return Ok(Target::File(target)),
        }
    }
    // Open files, or a circle of links, of which the system says so.
    match fs::metadata(path)?.is_dir() {
        true => Err(io::Error::other("a folder has this name")),
        false => Ok(Target::InPlace),
    }
}

/// The folder that a file is in; the current one for a bare name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A temporary file in the folder of `target`, with the permissions that the process gives any new file.
fn temporary_file(target: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = folder_of(target);
    let of_folder = |e: io::Error| io::Error::new(e.kind(), format!("folder {}: {e}", folder.display()));
    if !fs::metadata(folder).map_err(of_folder)?.is_dir() {
        return Err(io::Error::other(format!("{} is not a folder", folder.display())));
    }
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        // The operating system clears the bits of the umask.
        builder.permissions(fs::Permissions::from_mode(0o666))
    };
    builder.tempfile_in(folder).map_err(of_folder)
}

/// Refuses a path that [`write_whole`] could not write to: that of a folder, or in a folder that does not exist or takes no file. To
/// be called before the work whose result the file is to hold.
pub fn check_target(path: &Path) -> io::Result<()> {
    match target_of(path)? {
        Target::File(target) => temporary_file(&target).map(drop),
        Target::InPlace => Ok(()),
    }
}

/// As [`check_target`], for a file that is to be replaced again and again, which a device or a pipe cannot be.
pub fn check_replaceable_target(path: &Path) -> io::Result<()> {
    match target_of(path)? {
        Target::File(_) => check_target(path),
        Target::InPlace => {
            Err(io::Error::other("a device, a pipe or an open file, which cannot be replaced"))
        }
    }
}

/// Writes a file whose contents `write` produces. It gets the permissions of the file that it replaces, or those that the
/// process gives any new file (666 without the bits of the umask). A device, a pipe or an open file (`/dev/stdout`) is
/// written to as it is.
pub fn write_whole<E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<(), E>,
) -> Result<(), E> {
    let target = match target_of(path)? {
        Target::File(target) => target,
        Target::InPlace => {
            let mut file = File::options().write(true).truncate(true).open(path)?;
            write(&mut file)?;
            return Ok(file.flush()?);
        }
    };
    let mut file = temporary_file(&target)?;
    write(file.as_file_mut())?;
    if let Ok(existing) = fs::metadata(&target) {
        file.as_file().set_permissions(existing.permissions())?;
    }
    file.as_file().sync_all()?;
    file.persist(&target).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn permission_bits(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }
    fn write_text(path: &Path, text: &str) -> io::Result<()> {
        write_whole(path, |file| file.write_all(text.as_bytes()))
    }

    #[test]
    fn permissions_and_links_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // What the process's umask gives a new file.
        fs::write(at("plain"), "").unwrap();
        write_text(&at("new"), "1").unwrap();
        assert_eq!(permission_bits(&at("new")), permission_bits(&at("plain")));
        for bits in [0o640, 0o600, 0o664] {
            fs::set_permissions(at("new"), fs::Permissions::from_mode(bits)).unwrap();
            write_text(&at("new"), "2").unwrap();
            assert_eq!(permission_bits(&at("new")), bits);
        }
        fs::create_dir(at("inner")).unwrap();
        symlink("inner/second", at("first")).unwrap();
        symlink("../new", at("inner/second")).unwrap();
        write_text(&at("first"), "3").unwrap();
        assert_eq!(fs::read_to_string(at("new")).unwrap(), "3");
        assert!(fs::symlink_metadata(at("first")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(at("inner/second")).unwrap().is_symlink());
        // A link to a file that is not there yet.
        symlink("inner/later", at("dangling")).unwrap();
        write_text(&at("dangling"), "4").unwrap();
        assert_eq!(fs::read_to_string(at("inner/later")).unwrap(), "4");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let nowhere = write_text(&at("none/file"), "1").unwrap_err();
        assert!(nowhere.to_string().contains("none"), "{nowhere}");
        assert!(write_text(folder.path(), "1").is_err());
        symlink("loop", at("loop")).unwrap();
        assert!(write_text(&at("loop"), "1").is_err());
        write_text(&at("file"), "1").unwrap();
        let failed = write_whole(&at("file"), |file| -> io::Result<()> {
            file.write_all(b"half")?;
            Err(io::Error::other("stopped"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "1");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }

    #[test]
    fn what_is_no_file_of_its_own_is_refused_or_written_in_place() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("inner")).unwrap();
        symlink("inner", at("to_folder")).unwrap();
        symlink("inner/", at("to_slash")).unwrap();
        symlink("nowhere/file", at("to_nowhere")).unwrap();
        symlink("/dev/full", at("to_full")).unwrap();
        symlink("plain", at("to_plain")).unwrap();
        fs::write(at("plain"), "before").unwrap();
        for name in
            ["to_folder", "to_slash", "to_nowhere", "plain/", "new/", "inner/.", "inner/..", "plain/x"]
        {
            assert!(check_target(&at(name)).is_err(), "{name}");
            assert!(check_replaceable_target(&at(name)).is_err(), "{name}");
            assert!(write_text(&at(name), "1").is_err(), "{name}");
        }
        for name in ["plain", "to_plain", "new"] {
            check_replaceable_target(&at(name)).unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 7, "a check leaves nothing");
        if !cfg!(target_os = "linux") {
            return;
        }
        for path in ["/dev/null".into(), "/dev/full".into(), "/proc/self/fd/0".into(), at("to_full")] {
            check_target(&path).unwrap();
            assert!(check_replaceable_target(&path).is_err(), "{path:?}");
        }
        write_text(Path::new("/dev/null"), "1").unwrap();
        assert!(write_text(&at("to_full"), "1").is_err());
        assert!(fs::symlink_metadata(at("to_full")).unwrap().is_symlink());
        // A file that is open: it is written to, and stays the file that it is.
        use std::os::{fd::AsRawFd, unix::fs::MetadataExt};
        let open = File::options().read(true).write(true).open(at("plain")).unwrap();
        write_text(Path::new(&format!("/proc/self/fd/{}", open.as_raw_fd())), "now").unwrap();
        assert_eq!(fs::read_to_string(at("plain")).unwrap(), "now");
        assert_eq!(fs::metadata(at("plain")).unwrap().ino(), open.metadata().unwrap().ino());
    }
}

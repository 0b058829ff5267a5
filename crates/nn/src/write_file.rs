//! Writes files so that a reader finds the old file or the new one, never a part: to a temporary file in the same folder,
//! which is then renamed.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Most symbolic links that are followed one after the other; Linux follows as many.
const MAX_LINKS: usize = 40;

/// The file that a path leads to through symbolic links. A rename to it replaces the file and leaves the links.
fn target_of(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::symlink_metadata(&target) {
            Ok(metadata) if metadata.is_symlink() => {
                let next = fs::read_link(&target)?;
                target = folder_of(&target).join(next);
            }
            _ => return Ok(target),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// The folder that a file is in; the current one for a bare name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Refuses a path that no file can be written to, because its folder does not exist or a folder has its name. To be called
/// before the work whose result the file is to hold.
pub fn check_target(path: &Path) -> io::Result<()> {
    let target = target_of(path)?;
    if target.is_dir() {
        return Err(io::Error::other("a folder has this name"));
    }
    let folder = folder_of(&target);
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::other(format!("{} is not a folder", folder.display()))),
        Err(e) => Err(io::Error::new(e.kind(), format!("folder {}: {e}", folder.display()))),
    }
}

/// Writes a file whose contents `write` produces. It gets the permissions of the file that it replaces, or those that the
/// process gives any new file (666 without the bits of the umask).
pub fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    check_target(path)?;
    let target = target_of(path)?;
    let existing = fs::metadata(&target).ok();
    if existing.as_ref().is_some_and(|metadata| !metadata.is_file()) {
        // The path names a pipe or a device, which is written in place: a rename would replace it by a file.
        let mut file = File::options().write(true).open(&target)?;
        return write(&mut file).and_then(|()| file.flush());
    }
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        use std::os::unix::fs::PermissionsExt;
        // The operating system clears the bits of the umask.
        builder.permissions(fs::Permissions::from_mode(0o666))
    };
    let mut file = builder.tempfile_in(folder_of(&target))?;
    write(file.as_file_mut())?;
    if let Some(metadata) = existing {
        file.as_file().set_permissions(metadata.permissions())?;
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
        let failed = write_whole(&at("file"), |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("stopped"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "1");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }
}

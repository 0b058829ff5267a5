//! Folders whose subfolders are classes.

use crate::{DataError, Result};
use std::path::{Path, PathBuf};

/// Files with the class of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassFolder {
    /// Names of the subfolders, sorted.
    pub classes: Vec<String>,
    /// Sorted by class, then by name.
    pub files: Vec<PathBuf>,
    /// (files): index of `classes`.
    pub labels: Vec<usize>,
}

/// The files of every subfolder of `path` that end in one of `endings` (`".png"`; any case; none given: all
/// files). What begins with a point is passed over.
pub fn class_folder(path: impl AsRef<Path>, endings: &[&str]) -> Result<ClassFolder> {
    let path = path.as_ref();
    let mut made = ClassFolder { classes: Vec::new(), files: Vec::new(), labels: Vec::new() };
    for folder in sorted(path)?.into_iter().filter(|p| p.is_dir()) {
        let wanted = |file: &PathBuf| {
            let name = name_of(file).to_lowercase();
            file.is_file()
                && (endings.is_empty() || endings.iter().any(|e| name.ends_with(&e.to_lowercase())))
        };
        let files: Vec<PathBuf> = sorted(&folder)?.into_iter().filter(wanted).collect();
        made.labels.extend(files.iter().map(|_| made.classes.len()));
        made.files.extend(files);
        made.classes.push(name_of(&folder));
    }
    if made.files.is_empty() {
        let kinds = if endings.is_empty() { "files".into() } else { endings.join(", ") };
        let reason = format!("expected subfolders, one a class, with {kinds} in them, got none");
        return Err(DataError::new(reason).in_file(path));
    }
    Ok(made)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<PathBuf>>>()
    });
    let mut entries = entries.map_err(|e| DataError::new(e).in_file(folder))?;
    entries.retain(|entry| !name_of(entry).starts_with('.'));
    entries.sort();
    Ok(entries)
}

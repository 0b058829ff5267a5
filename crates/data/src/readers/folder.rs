//! Folders with a subfolder for each class, which holds the class's files.

use crate::{DataError, Result};
use std::path::{Path, PathBuf};

/// The files of a folder of classes, with the class of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassFolder {
    /// Names of the subfolders, sorted.
    pub classes: Vec<String>,
    /// Sorted by class, then by name.
    pub files: Vec<PathBuf>,
    /// For each file the index of its class in `classes`.
    pub labels: Vec<usize>,
}

/// The files in every subfolder of `path` whose names end in one of `endings` (such as `".png"`, in upper or lower
/// case; all files where `endings` is empty). Names that begin with a dot are skipped.
pub fn class_folder(path: impl AsRef<Path>, endings: &[&str]) -> Result<ClassFolder> {
    let path = path.as_ref();
    let mut class_files = ClassFolder { classes: Vec::new(), files: Vec::new(), labels: Vec::new() };
    for folder in sorted_entries(path)?.into_iter().filter(|p| p.is_dir()) {
        let has_ending = |file: &PathBuf| {
            let name = name_of(file).to_lowercase();
            file.is_file()
                && (endings.is_empty() || endings.iter().any(|e| name.ends_with(&e.to_lowercase())))
        };
        let files: Vec<PathBuf> = sorted_entries(&folder)?.into_iter().filter(has_ending).collect();
        class_files.labels.extend(files.iter().map(|_| class_files.classes.len()));
        class_files.files.extend(files);
        class_files.classes.push(name_of(&folder));
    }
    if class_files.files.is_empty() {
        let kinds = if endings.is_empty() { "files".into() } else { endings.join(", ") };
        let reason = format!("expected subfolders, one a class, with {kinds} in them, got none");
        return Err(DataError::new(reason).in_file(path));
    }
    Ok(class_files)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The paths in a folder, sorted, without those whose names begin with a dot.
fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<PathBuf>>>()
    });
    let mut entries = entries.map_err(|e| DataError::new(e).in_file(folder))?;
    entries.retain(|entry| !name_of(entry).starts_with('.'));
    entries.sort();
    Ok(entries)
}

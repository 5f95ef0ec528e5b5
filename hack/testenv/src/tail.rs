//! A growing file, read piece by piece: a soak's logs are too large to be read as a whole each time.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::bao_audit::text_since;

/// What has been read of a file so far. The file may not be there yet.
pub struct Tail {
    path: PathBuf,
    position: u64,
}

impl Tail {
    /// From the start of the file.
    pub fn new(path: impl Into<PathBuf>) -> Tail {
        Tail { path: path.into(), position: 0 }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole lines that have come since the last call.
    pub fn read(&mut self) -> Result<String> {
        let text = text_since(&self.path, self.position)?;
        self.position += u64::try_from(text.len())?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::Tail;

    #[test]
    fn a_line_is_read_once_and_only_when_it_is_whole() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut tail = Tail::new(file.path());
        file.write_all(b"one\ntw").expect("a write");
        assert_eq!(tail.read().expect("it is there"), "one\n");
        file.write_all(b"o\n").expect("a write");
        assert_eq!(tail.read().expect("it is there"), "two\n");
        assert_eq!(tail.read().expect("it is there"), "");
    }
}

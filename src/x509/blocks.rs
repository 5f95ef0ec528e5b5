//! Text becomes PEM blocks (RFC 7468). Stricter than most readers on purpose: a reader that skips what it cannot parse would
//! drop one root of a bundle without a word.
//!
//! What is tolerated: explanatory text before, between and after the blocks (RFC 7468 §5.2; `openssl x509 -text` writes it), a
//! byte order mark, CR before LF, white space at line ends, lines of any length. What is not: headers inside a block, a
//! block without its own END line, an END line without a block, two boundaries on one line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One block: what its boundary calls it, and its bytes.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) label: String,
    pub(super) der: Vec<u8>,
}

/// Why a text is not a sequence of PEM blocks. Blocks are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// More text than is read.
    #[error("it has {bytes} bytes, and at most {most} are read")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most that is read.
        most: usize,
    },
    /// Nothing in it starts a block.
    #[error("it holds no PEM block (a line such as -----BEGIN CERTIFICATE-----)")]
    Empty,
    /// A BEGIN line that cannot be read.
    #[error("the BEGIN line of PEM block {block} is malformed")]
    Begin {
        /// Which block.
        block: usize,
    },
    /// The END line is missing, names another label, or shares its line with other text.
    #[error("PEM block {block} has no line of its own that reads -----END {label}-----")]
    Unclosed {
        /// Which block.
        block: usize,
        /// What its BEGIN line calls it.
        label: String,
    },
    /// An END line where no block is open.
    #[error("line {line} ends a PEM block that was never begun")]
    StrayEnd {
        /// Line number, from 1.
        line: usize,
    },
    /// What stands between the boundaries is not base64.
    #[error("PEM block {block} does not hold base64")]
    Base64 {
        /// Which block.
        block: usize,
    },
}

/// All blocks of `text`, at least one.
pub(super) fn read(text: &[u8], most: usize) -> Result<Vec<Block>, PemError> {
    if text.len() > most {
        return Err(PemError::TooLarge { bytes: text.len(), most });
    }
    // Explanatory text may be in any encoding. Inside a block the replacement character is refused as not base64.
    let text = String::from_utf8_lossy(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text));
    let mut blocks = Vec::new();
    let mut lines = text.lines().map(str::trim_end).enumerate();
    while let Some((index, line)) = lines.next() {
        if line.starts_with("-----BEGIN") {
            blocks.push(rest_of_block(line, &mut lines, blocks.len() + 1)?);
        } else if line.starts_with("-----END") {
            return Err(PemError::StrayEnd { line: index + 1 });
        }
    }
    if blocks.is_empty() { Err(PemError::Empty) } else { Ok(blocks) }
}

fn rest_of_block<'a>(
    begin: &str,
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
    block: usize,
) -> Result<Block, PemError> {
    let label = begin
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.strip_suffix("-----"))
        .filter(|label| label.len() <= 64 && label.bytes().all(|byte| byte == b' ' || byte.is_ascii_alphanumeric()))
        .ok_or(PemError::Begin { block })?;
    let end = format!("-----END {label}-----");
    let mut base64 = String::new();
    for (_, line) in lines {
        if line == end {
            let der = STANDARD.decode(&base64).map_err(|_| PemError::Base64 { block })?;
            return Ok(Block { label: label.to_owned(), der });
        }
        if line.starts_with("-----") {
            break;
        }
        base64.push_str(line.trim_start());
    }
    Err(PemError::Unclosed { block, label: label.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, expected: &[(&str, &[u8])]) {
        let blocks = read(text.as_bytes(), 1_000).expect("blocks");
        let found: Vec<_> = blocks.iter().map(|block| (block.label.as_str(), block.der.as_slice())).collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn refuses(text: &str, expected: PemError) {
        assert_eq!(read(text.as_bytes(), 1_000).expect_err("an error"), expected);
    }

    #[test]
    fn text_around_blocks_is_explanation() {
        reads("-----BEGIN A-----\nAQI=\n-----END A-----", &[("A", &[1, 2])]);
        reads(
            "\u{feff}-----BEGIN A-----\r\nAQ\r\nI=\r\n-----END A-----\r\n\nroot of 2030\n-----BEGIN B C-----\n\n-----END B C-----\nend\n",
            &[("A", &[1, 2]), ("B C", &[])],
        );
    }

    #[test]
    fn no_block_is_skipped_in_silence() {
        refuses("", PemError::Empty);
        refuses("AQI=", PemError::Empty);
        refuses("-----BEGIN A-----\nAQI=\n", PemError::Unclosed { block: 1, label: "A".into() });
        refuses("-----BEGIN A-----\nAQI=\n-----END B-----\n", PemError::Unclosed { block: 1, label: "A".into() });
        refuses(
            "-----BEGIN A-----\nAQI=\n-----END A----------BEGIN A-----\nAQI=\n-----END A-----\n",
            PemError::Unclosed { block: 1, label: "A".into() },
        );
        refuses("-----BEGIN A-----\nAQI=\n-----END A-----\n-----END A-----\n", PemError::StrayEnd { line: 4 });
        refuses("-----BEGIN A----\nAQI=\n-----END A-----\n", PemError::Begin { block: 1 });
        refuses("-----BEGIN A-----\nProc-Type: 4\n\nAQI=\n-----END A-----\n", PemError::Base64 { block: 1 });
        refuses(
            "-----BEGIN A-----\nAQI=\n-----END A-----\n-----BEGIN A-----\nAQ!=\n-----END A-----\n",
            PemError::Base64 { block: 2 },
        );
        refuses(&"x".repeat(1_001), PemError::TooLarge { bytes: 1_001, most: 1_000 });
    }
}

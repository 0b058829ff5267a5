//! The error of every operation: a stable code, the operation, what it expected and what it got.

use std::{borrow::Cow, fmt};

/// The stable codes that JavaScript sees as `ERR_S4_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Code {
    Shape,
    Dtype,
    Value,
    Device,
    Memory,
    Disposed,
    Checkpoint,
    Data,
    Aborted,
    NonFinite,
    Busy,
    Unsupported,
    Distributed,
    Peer,
    Internal,
}

impl Code {
    /// The name as JavaScript sees it.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::Shape => "ERR_S4_SHAPE",
            Code::Dtype => "ERR_S4_DTYPE",
            Code::Value => "ERR_S4_VALUE",
            Code::Device => "ERR_S4_DEVICE",
            Code::Memory => "ERR_S4_MEMORY",
            Code::Disposed => "ERR_S4_DISPOSED",
            Code::Checkpoint => "ERR_S4_CHECKPOINT",
            Code::Data => "ERR_S4_DATA",
            Code::Aborted => "ERR_S4_ABORTED",
            Code::NonFinite => "ERR_S4_NONFINITE",
            Code::Busy => "ERR_S4_BUSY",
            Code::Unsupported => "ERR_S4_UNSUPPORTED",
            Code::Distributed => "ERR_S4_DISTRIBUTED",
            Code::Peer => "ERR_S4_PEER",
            Code::Internal => "ERR_S4_INTERNAL",
        }
    }
}

/// One failed operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Stable code.
    pub code: Code,
    /// The operation, in the words of the API (`"S4Layer.forward"`, `"conv_forward"`).
    pub op: Cow<'static, str>,
    /// What would have been right.
    pub expected: String,
    /// What was given instead.
    pub got: String,
    /// The update at which it happened, where that is known (`ERR_S4_NONFINITE`).
    pub step: Option<u64>,
    /// The parameter or activation concerned, where that is known.
    pub tensor: Option<String>,
}

/// Most characters that a message shows of what was given: it may be a name out of a hostile file.
const MAX_SHOWN: usize = 1000;

/// The text, cut where it is too long for a message.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Result of every fallible operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of operation `op`, without a training step or tensor.
    #[cold]
    pub fn new(
        code: Code,
        op: impl Into<Cow<'static, str>>,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        Error {
            code,
            op: op.into(),
            expected: expected.to_string(),
            got: shortened(got.to_string()),
            step: None,
            tensor: None,
        }
    }

    /// The same error with the training step and the tensor concerned.
    pub fn at(mut self, step: Option<u64>, tensor: Option<String>) -> Self {
        (self.step, self.tensor) = (step, tensor);
        self
    }

    /// An error with the code `ERR_S4_SHAPE`: sizes or numbers of elements that do not fit.
    #[cold]
    pub fn shape(
        op: impl Into<Cow<'static, str>>,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        Self::new(Code::Shape, op, expected, got)
    }

    /// An error with the code `ERR_S4_VALUE`: a value outside its allowed range.
    #[cold]
    pub fn value(
        op: impl Into<Cow<'static, str>>,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        Self::new(Code::Value, op, expected, got)
    }

    /// An error with the code `ERR_S4_UNSUPPORTED`: valid arguments for which there is no implementation.
    #[cold]
    pub fn unsupported(
        op: impl Into<Cow<'static, str>>,
        expected: impl fmt::Display,
        got: impl fmt::Display,
    ) -> Self {
        Self::new(Code::Unsupported, op, expected, got)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, got {}", self.op, self.expected, self.got)
    }
}

impl std::error::Error for Error {}

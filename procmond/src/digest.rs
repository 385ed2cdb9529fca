//! Short digests that tell whether something is as it was.
//!
//! 64 bits of BLAKE3: a process that wants a change to go unnoticed has to find a second preimage.

use daemoneye_lib::models::columns::Value;

/// A digest in the making; every part is delimited, so that no two sequences of parts are the same bytes.
pub(crate) struct Digest(blake3::Hasher);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(&bytes.len().to_le_bytes()).update(bytes);
        self
    }

    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// A column's value.
    pub(crate) fn value(&mut self, value: &Value<'_>) -> &mut Self {
        match value {
            Value::Null => self.number(0),
            Value::Text(text) => self.number(1).bytes(text.as_bytes()),
            Value::Integer(number) => self.number(2).number(number.cast_unsigned()),
            Value::Real(number) => self.number(3).number(number.to_bits()),
        }
    }

    /// Never 0, which can therefore stand for "not known".
    pub(crate) fn finish(&self) -> u64 {
        let mut short = [0; 8];
        self.0.finalize_xof().fill(&mut short);
        u64::from_le_bytes(short).max(1)
    }
}

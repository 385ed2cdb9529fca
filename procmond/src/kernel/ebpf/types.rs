//! The kernel's description of itself.

use super::LoadError;
use aya::Btf;
use std::cell::OnceCell;
use std::path::Path;

const TYPES: &str = "/sys/kernel/btf/vmlinux";

/// The types of the kernel's structures (BTF), by which programs find what they read. They take some 27 MB, so they are read
/// when somebody asks first, and kept only until all programs are loaded.
#[derive(Default)]
pub(crate) struct KernelTypes(OnceCell<Btf>);

impl KernelTypes {
    /// The types.
    ///
    /// # Errors
    /// Where this kernel does not tell them, or not in a way that is understood.
    pub(crate) fn get(&self) -> Result<&Btf, LoadError> {
        if let Some(types) = self.0.get() {
            return Ok(types);
        }
        if !Path::new(TYPES).exists() {
            return Err(LoadError::NoBtf);
        }
        let types = Btf::from_sys_fs().map_err(LoadError::Btf)?;
        Ok(self.0.get_or_init(|| types))
    }
}

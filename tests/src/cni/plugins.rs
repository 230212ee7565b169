//! The folder that a runtime calls `bin_dir`, and `CNI_PATH` says.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::daemon::binary;

/// Where Debian's `containernetworking-plugins` are.
pub const STOCK: &str = "/usr/lib/cni";

/// A scratch folder with our plugin and Debian's, and beside them what plugins write. It goes with
/// the last handle.
#[derive(Debug, Clone)]
pub struct Plugins {
    folder: Arc<TempDir>,
}

impl Plugins {
    /// Links our plugin (`SHUNT_CNI_BIN`, or the one beside this program) and all of Debian's.
    ///
    /// # Errors
    /// When one is missing; the message says how to come by it.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sh-cni-").tempdir()?;
        let bin = folder.path().join("bin");
        std::fs::create_dir(&bin)?;
        let ours = binary("SHUNT_CNI_BIN", "shunt-cni", "shunt-cni")?;
        symlink(ours, bin.join("shunt-cni"))?;
        let stock = std::fs::read_dir(STOCK)
            .with_context(|| format!("{STOCK}: scripts/install-deps.sh installs it"))?;
        for plugin in stock {
            let plugin = plugin?;
            symlink(plugin.path(), bin.join(plugin.file_name()))?;
        }
        Ok(Self {
            folder: Arc::new(folder),
        })
    }

    /// The folder of the plugins: `CNI_PATH`.
    pub fn bin(&self) -> PathBuf {
        self.folder.path().join("bin")
    }

    /// A plugin by its `type`.
    pub fn plugin(&self, kind: &str) -> PathBuf {
        self.bin().join(kind)
    }

    /// Host-local's `dataDir`.
    pub fn lease_dir(&self) -> PathBuf {
        self.folder.path().join("leases")
    }

    /// A folder for whatever else a test needs.
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a shell script in as plugin `kind`, in place of one that is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn script(&self, kind: &str, body: &str) -> Result<()> {
        let file = self.plugin(kind);
        // What is there may be a link to the real one.
        let _ = std::fs::remove_file(&file);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n"))?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// Puts in `kind`: host-local as one that speaks CNI 1.1 would be. Debian 12's speaks 1.0 at
    /// most, so the version is changed on the way in and out. It knows STATUS and GC, and writes
    /// the verb of each call into [`Plugins::calls`].
    ///
    /// # Errors
    /// As [`Plugins::script`].
    pub fn modern_host_local(&self, kind: &str) -> Result<()> {
        let log = self.folder.path().join(format!("{kind}.calls"));
        let body = format!(
            "echo \"$CNI_COMMAND\" >> {log}\n\
             case \"$CNI_COMMAND\" in\n\
             STATUS | GC) cat > {log}.$CNI_COMMAND; exit 0 ;;\n\
             esac\n\
             sed 's/\"cniVersion\": *\"1.1.0\"/\"cniVersion\":\"1.0.0\"/g' \
             | {STOCK}/host-local > {log}.$$\n\
             status=$?\n\
             sed 's/\"cniVersion\": *\"1.0.0\"/\"cniVersion\":\"1.1.0\"/g' {log}.$$\n\
             rm -f {log}.$$\n\
             exit $status",
            log = log.display()
        );
        self.script(kind, &body)
    }

    /// Puts in `kind`: host-local, after whose `verb` some shell commands run, and which writes
    /// the verb of each call into [`Plugins::calls`].
    ///
    /// # Errors
    /// As [`Plugins::script`].
    pub fn host_local_then(&self, kind: &str, verb: &str, commands: &str) -> Result<()> {
        let log = self.folder.path().join(format!("{kind}.calls"));
        let body = format!(
            "echo \"$CNI_COMMAND\" >> {log}\n\
             {STOCK}/host-local\n\
             status=$?\n\
             if [ \"$CNI_COMMAND\" = {verb} ]; then {{ {commands}; }} > /dev/null 2>&1; fi\n\
             exit $status",
            log = log.display()
        );
        self.script(kind, &body)
    }

    /// The verbs with which a host-local in disguise was called, in order.
    pub fn calls(&self, kind: &str) -> Vec<String> {
        // No file: it was not called.
        let text = std::fs::read_to_string(self.folder.path().join(format!("{kind}.calls")));
        text.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// What [`Plugins::modern_host_local`] got on standard input with the last `verb`, STATUS or
    /// GC.
    ///
    /// # Errors
    /// When there was no such call.
    pub fn heard(&self, kind: &str, verb: &str) -> Result<String> {
        let file = self.folder.path().join(format!("{kind}.calls.{verb}"));
        std::fs::read_to_string(&file).with_context(|| format!("{kind} was not called by {verb}"))
    }
}

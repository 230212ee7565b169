//! The peer's root file system: a cpio archive that the kernel unpacks at boot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::run;

/// The program that is a Linux kernel.
pub(super) const KERNEL: &str = "linux.uml";

/// Where the Debian package puts its modules, in a folder named after the kernel's version.
const MODULES: &str = "/usr/lib/uml/modules";

/// What [`collect`] takes from `MODULES`, with all that these need.
const WANTED_MODULES: [&str; 2] = ["ipip", "vxlan"];

/// What it takes from the machine, with their shared libraries.
const PROGRAMS: [&str; 4] = ["busybox", "dash", "ip", "bridge"];

/// The first process.
const INIT: &str = include_str!("../../uml/init");

const REMEDY: &str = "scripts/install-deps.sh installs it";

/// Everything in the archive, by path without the leading slash.
#[derive(Debug, Default)]
struct Files(BTreeMap<String, File>);

#[derive(Debug)]
struct File {
    mode: u32,
    content: Vec<u8>,
}

/// Builds the archive; `blob` becomes `/www/blob`.
///
/// # Errors
/// When a program, a library or a module is missing on this machine.
pub(super) fn build(blob: Vec<u8>) -> Result<Vec<u8>> {
    let mut files = Files::default();
    collect(&mut files)?;
    files.add("www/blob", 0o644, blob);
    files.add("init", 0o755, INIT.into());
    for folder in ["proc", "sys", "dev", "tmp"] {
        files.folder(folder);
    }
    files.archive()
}

fn collect(files: &mut Files) -> Result<()> {
    for program in PROGRAMS {
        let path = find_program(program)?;
        for library in shared_libraries(&path)? {
            files.copy(library.trim_start_matches('/'), 0o755, Path::new(&library))?;
        }
        files.copy(&format!("bin/{program}"), 0o755, &path)?;
    }
    let version = run(&[KERNEL, "--version"])?;
    let folder = Path::new(MODULES).join(version.trim());
    let dependencies = folder.join("modules.dep");
    let dependencies = std::fs::read_to_string(&dependencies)
        .with_context(|| format!("{}: {REMEDY}", dependencies.display()))?;
    let mut order = String::new();
    for path in load_order(&dependencies, &WANTED_MODULES)? {
        let name = file_name(path);
        files.copy(&format!("lib/modules/{name}"), 0o644, &folder.join(path))?;
        order.push_str(name);
        order.push('\n');
    }
    files.add("lib/modules/order", 0o644, order.into());
    Ok(())
}

fn find_program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("no program `{name}`: {REMEDY}"))
}

/// The absolute paths in the output of ldd(1), which fails for a static program.
fn shared_libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    if !output.status.success() {
        return Ok(Vec::new());
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(str::to_owned)
        .collect())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The files to load for the modules in `wanted`, each after those it needs, from the text of
/// `modules.dep` (depmod(8)): lines `PATH: PATH...`.
fn load_order<'a>(dependencies: &'a str, wanted: &[&str]) -> Result<Vec<&'a str>> {
    let lines: BTreeMap<&str, &str> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .collect();
    let mut order = Vec::new();
    for name in wanted {
        let file = format!("{name}.ko");
        let path = lines.keys().find(|path| file_name(path) == file);
        let Some(path) = path.copied() else {
            bail!("this user-mode-linux has no module {name}: {REMEDY}");
        };
        load_after_needs(path, &lines, &mut BTreeSet::new(), &mut order);
    }
    Ok(order)
}

fn load_after_needs<'a>(
    path: &'a str,
    lines: &BTreeMap<&'a str, &'a str>,
    visiting: &mut BTreeSet<&'a str>,
    order: &mut Vec<&'a str>,
) {
    if order.contains(&path) || !visiting.insert(path) {
        return;
    }
    for need in lines.get(path).unwrap_or(&"").split_whitespace() {
        load_after_needs(need, lines, visiting, order);
    }
    order.push(path);
}

impl Files {
    fn add(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        let mut folder = path;
        while let Some((parent, _)) = folder.rsplit_once('/') {
            self.folder(parent);
            folder = parent;
        }
        let mode = 0o100_000 | permissions;
        self.0.insert(path.to_owned(), File { mode, content });
    }

    fn folder(&mut self, path: &str) {
        self.0.entry(path.to_owned()).or_insert(File {
            mode: 0o040_755,
            content: Vec::new(),
        });
    }

    fn copy(&mut self, path: &str, permissions: u32, from: &Path) -> Result<()> {
        let content =
            std::fs::read(from).with_context(|| format!("{}: {REMEDY}", from.display()))?;
        self.add(path, permissions, content);
        Ok(())
    }

    /// The "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst in the
    /// kernel's tree). Paths are in order, so that every folder comes before what is in it.
    fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = Vec::new();
        let mut inode = 0u32;
        for (path, file) in &self.0 {
            inode = inode.saturating_add(1);
            append(&mut archive, inode, path, file.mode, &file.content)?;
        }
        append(&mut archive, 0, "TRAILER!!!", 0, &[])?;
        Ok(archive)
    }
}

/// Appends one member: thirteen fields of eight hexadecimal digits after the magic number, the
/// path with a NUL, the content; both padded to a multiple of four bytes.
fn append(archive: &mut Vec<u8>, inode: u32, path: &str, mode: u32, content: &[u8]) -> Result<()> {
    let size = u32::try_from(content.len()).with_context(|| format!("{path} is too large"))?;
    let name_size = u32::try_from(path.len() + 1).context("path is too long")?;
    // ino, mode, nlink, uid, gid, mtime, filesize, four device numbers, namesize, check
    let fields = [inode, mode, 1, 0, 0, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(path.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(4), 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_what_it_needs() {
        let text = "net/ipip.ko: net/tunnel4.ko net/ip_tunnel.ko\nnet/tunnel4.ko:\n\
                    net/ip_tunnel.ko: net/base.ko\nnet/base.ko:\nnet/vxlan.ko: net/base.ko\n";
        assert_eq!(
            load_order(text, &["ipip", "vxlan"]).unwrap(),
            [
                "net/tunnel4.ko",
                "net/base.ko",
                "net/ip_tunnel.ko",
                "net/ipip.ko",
                "net/vxlan.ko"
            ]
        );
        let error = load_order(text, &["gre"]).unwrap_err().to_string();
        assert!(error.contains("no module gre"), "{error}");
        // A circle, which depmod never writes, must not loop.
        assert_eq!(
            load_order("a.ko: b.ko\nb.ko: a.ko\n", &["a"]).unwrap(),
            ["b.ko", "a.ko"]
        );
    }

    #[test]
    fn an_archive_has_the_newc_layout() {
        let mut files = Files::default();
        files.add("a/b", 0o644, b"hello".to_vec());
        let archive = files.archive().unwrap();
        let expected = "070701\
             00000001000041ed00000001000000000000000000000000\
             0000000000000000000000000000000000000000\
             0000000200000000a\0\
             070701\
             00000002000081a400000001000000000000000000000000\
             0000000500000000000000000000000000000000\
             0000000400000000a/b\0\0\0hello\0\0\0\
             070701\
             00000000000000000000000100000000000000000000000000000000\
             00000000000000000000000000000000\
             0000000b00000000TRAILER!!!\0\0\0\0";
        assert_eq!(String::from_utf8(archive).unwrap(), expected);
    }
}

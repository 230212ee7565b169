//! Puts plugin and configuration in place, and removes them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::conflist::{Conflist, IPAM};
use super::folder::{Entry, Kind, seen};
use super::place::{Folder, read};
use super::plugin::versions;
use super::{CniError, InstallArgs, PLUGIN, RemoveArgs};

/// What was done, and what the user should look after; a line each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) done: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Puts the plugin in place, then its configuration.
///
/// # Errors
/// See [`CniError`]. What can be seen beforehand is refused before anything is written.
pub(super) fn install(args: &InstallArgs, conflist: &Conflist) -> Result<Report, CniError> {
    let InstallArgs {
        bin_dir,
        conf_dir,
        binary,
        conf_name,
        conflist: _,
    } = args;
    let text = conflist.text()?;
    let binary = match binary {
        Some(binary) => binary.clone(),
        None => beside_this_program()?,
    };
    let plugin = read(&binary)?;
    must_speak(&binary, conflist.newest_version())?;
    let mut report = Report {
        done: Vec::new(),
        warnings: neighbours(&seen(conf_dir)?, conf_name)?,
    };
    for companion in conflist.companions() {
        report
            .warnings
            .extend(missing(bin_dir, companion, conflist.newest_version()));
    }
    // Each folder is locked only while it is worked in: they may be the same.
    let put = |folder: &Path, name: &str, bytes: &[u8], mode| {
        let new = Folder::make(folder)?.put(name, bytes, mode)?;
        let done = if new { "installed" } else { "unchanged" };
        Ok::<_, CniError>(format!("{done} {}", folder.join(name).display()))
    };
    report.done.push(put(bin_dir, PLUGIN, &plugin, 0o755)?);
    report
        .done
        .push(put(conf_dir, conf_name, text.as_bytes(), 0o644)?);
    Ok(report)
}

/// Removes every configuration that names the plugin, then the plugin.
///
/// # Errors
/// See [`CniError`]; the plugin stays while a configuration of it does.
pub(super) fn remove(args: &RemoveArgs) -> Result<Report, CniError> {
    let RemoveArgs { bin_dir, conf_dir } = args;
    let mut report = Report::default();
    if let Some(folder) = Folder::existing(conf_dir)? {
        for entry in seen(conf_dir)? {
            let path = entry.path.display();
            let removed = match (&entry.kind, entry.name.to_str()) {
                (Kind::Ours, Some(name)) => folder.remove(name)?,
                _ => false,
            };
            if removed {
                report.done.push(format!("removed {path}"));
            }
            if let Kind::Broken(why) = &entry.kind {
                report.warnings.push(format!(
                    "{path} is left, for it is broken and may be anybody's: {why}; repair or \
                     remove it"
                ));
            }
        }
    }
    if let Some(folder) = Folder::existing(bin_dir)?
        && folder.remove(PLUGIN)?
    {
        let path = bin_dir.join(PLUGIN);
        report.done.push(format!("removed {}", path.display()));
    }
    if report.done.is_empty() {
        report.done.push("nothing to remove".to_owned());
    }
    Ok(report)
}

fn beside_this_program() -> Result<PathBuf, CniError> {
    let program = std::env::current_exe().map_err(CniError::file(
        "find this program at",
        Path::new("/proc/self/exe"),
    ))?;
    let binary = program.with_file_name(PLUGIN);
    if binary.is_file() {
        return Ok(binary);
    }
    Err(CniError::Refused(format!(
        "there is no {}: build it by `make build`, or name it by --binary",
        binary.display()
    )))
}

fn must_speak(binary: &Path, version: &str) -> Result<(), CniError> {
    let why = match versions(binary) {
        Ok(spoken) if spoken.iter().any(|spoken| spoken == version) => return Ok(()),
        Ok(spoken) => format!("it speaks CNI {}, not {version}", spoken.join(", ")),
        Err(why) => why,
    };
    Err(CniError::Refused(format!(
        "{} cannot be the plugin: {why}; name another by --binary",
        binary.display()
    )))
}

/// Judges what else is in the folder of configurations.
fn neighbours(seen: &[Entry], conf_name: &str) -> Result<Vec<String>, CniError> {
    let mut warnings = Vec::new();
    for Entry { name, path, kind } in seen {
        let path = path.display();
        let order = name.as_os_str().cmp(conf_name.as_ref());
        match kind {
            Kind::Broken(why) if order.is_lt() => {
                return Err(CniError::Refused(format!(
                    "{path} is broken and comes before {conf_name}, so that the runtime would \
                     load neither: {why}; repair or remove it"
                )));
            }
            Kind::Broken(why) if order.is_gt() => warnings.push(format!(
                "{path} is broken: {why}; a runtime that loads more than one configuration fails \
                 by it: repair or remove it"
            )),
            Kind::Foreign if order.is_eq() => {
                return Err(CniError::Refused(format!(
                    "{path} is not of Shunt: choose another --conf-name, or remove it"
                )));
            }
            Kind::Ours | Kind::Foreign if order.is_lt() => warnings.push(format!(
                "the runtime uses {path}, which comes before {conf_name}: remove it, or choose a \
                 --conf-name that comes before it"
            )),
            // What is broken under our name is replaced.
            _ => {}
        }
    }
    Ok(warnings)
}

/// A warning, if a plugin that a runtime calls beside ours is not there or is too old.
fn missing(bin_dir: &Path, plugin: &str, version: &str) -> Option<String> {
    let path = bin_dir.join(plugin);
    let executable = path
        .metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    let way_out = match plugin {
        "portmap" => ", or install with --no-portmap",
        _ => "",
    };
    if !executable {
        return Some(format!(
            "there is no {}, and pods will not start without: put the CNI project's plugins there \
             (Debian's containernetworking-plugins has them in /usr/lib/cni){way_out}",
            path.display()
        ));
    }
    // Runtimes call it in a version of their own choice.
    if plugin == "loopback" {
        return None;
    }
    let why = match versions(&path) {
        Ok(spoken) if spoken.iter().any(|spoken| spoken == version) => return None,
        Ok(spoken) => format!("speaks CNI {}, not {version}", spoken.join(", ")),
        Err(why) => format!("cannot be used: {why}"),
    };
    let older = match (version, plugin) {
        ("1.1.0", IPAM | "portmap") => ", or install with --cni-version 1.0.0",
        _ => "",
    };
    Some(format!(
        "{} {why}, and pods will not start: replace it{older}{way_out}",
        path.display()
    ))
}

#[cfg(test)]
mod tests;

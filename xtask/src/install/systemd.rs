//! The unit that starts the controller on boot, and its settings.
//!
//! Does not: enable or start it; that is the operator's word, and is printed. Settings that are there are never touched.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{below, put, read};
use crate::sh;

/// The unit, where administrators keep theirs.
const UNIT: &str = "/etc/systemd/system/weave-ctl.service";
/// Where the unit looks for settings: Debian's folder, and the one that others have. The second wins.
const SETTINGS: [&str; 2] = ["/etc/default/weave", "/etc/sysconfig/weave"];
/// The program, as the unit in the checkout names it.
const PROGRAM: &str = "/usr/local/bin/weave-ctl";
/// There where systemd is the init system; `sd_booted(3)`.
const BOOTED: &str = "/run/systemd/system";

/// The unit for the program below an absolute prefix.
pub(super) fn unit(prefix: &Path) -> Result<String> {
    let file = sh::root().join("dist/weave-ctl.service");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let program = prefix.join("bin/weave-ctl");
    // Anything else means something in a unit: a space ends the path, a percent sign begins a specifier.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    match program.to_str() {
        Some(program) if program.chars().all(plain) => Ok(text.replace(PROGRAM, program)),
        _ => bail!("a unit cannot start {}: choose a prefix of letters, digits and any of . _ + -", program.display()),
    }
}

/// Puts the unit in place, and settings where there are none, and says what is left to do.
pub(super) fn install(unit: &str, root: &Path) -> Result<()> {
    let settings = place(unit, root)?;
    // Where the files are another host's, there is nobody to tell.
    if root == Path::new("/") && Path::new(BOOTED).is_dir() {
        sh::run(sh::command("systemctl").arg("daemon-reload"))?;
    }
    println!("next: say in {} which peers there are, then run: systemctl enable --now weave-ctl", settings.display());
    Ok(())
}

/// Puts the files in place; returns where the settings are, as the host will call it.
fn place(unit: &str, root: &Path) -> Result<PathBuf> {
    let to = below(root, Path::new(UNIT));
    make_folder_of(&to)?;
    put(unit.as_bytes(), &to, 0o644)?;
    println!("installed {}", to.display());

    // The last that is there, because that wins.
    let exists = |file: &&&str| fs::symlink_metadata(below(root, Path::new(file))).is_ok();
    if let Some(found) = SETTINGS.iter().rev().find(exists) {
        println!("left {} as it is", below(root, Path::new(found)).display());
        return Ok(PathBuf::from(found));
    }
    let [debian, others] = SETTINGS.map(Path::new);
    let has_folder = |file: &Path| below(root, file).parent().is_some_and(Path::is_dir);
    let chosen = if has_folder(others) && !has_folder(debian) { others } else { debian };
    let to = below(root, chosen);
    make_folder_of(&to)?;
    // For root alone: a password may get into it.
    put(&read(&sh::root().join("dist/weave.env"))?, &to, 0o600)?;
    println!("installed {}, an example: everything in it is a comment", to.display());
    Ok(chosen.to_owned())
}

fn make_folder_of(file: &Path) -> Result<()> {
    let folder = file.parent().unwrap_or(file);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

#[cfg(test)]
mod tests;

//! Taking a controller's traces away when it does not run.

use std::collections::BTreeSet;

use super::{RunError, egress};
use crate::{
    config::Dirs,
    shell::{datapath::Datapath, endpoints, lock, slow_path::Table, socket_device, store::Store},
};

/// Removes the dataplane of a controller that does not run. Says what was removed, a line each.
///
/// # Errors
/// A controller runs, or the kernel refused; what was removed before stays removed.
pub fn teardown_offline(dirs: &Dirs) -> Result<Vec<String>, RunError> {
    blocking(async {
        let _locks = hold(dirs)?;
        remove_dataplane(dirs, &known_devices(dirs)).await
    })
}

/// Removes the store and the dataplane of a controller that does not run. Says what was removed, a line each.
///
/// # Errors
/// As [`teardown_offline`].
pub fn wipe_offline(dirs: &Dirs) -> Result<Vec<String>, RunError> {
    blocking(async {
        let _locks = hold(dirs)?;
        let mut lines = remove_dataplane(dirs, &known_devices(dirs)).await?;
        Store::wipe(&dirs.state)?;
        lines.push(format!("the store in {} was removed", dirs.state.display()));
        Ok(lines)
    })
}

fn blocking<T>(work: impl Future<Output = Result<T, RunError>>) -> Result<T, RunError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Runtime)?.block_on(work)
}

/// Both directories, as far as they exist; a missing one has nothing to be removed.
fn hold(dirs: &Dirs) -> Result<Vec<lock::Lock>, RunError> {
    let present = [&dirs.state, &dirs.bpf].into_iter().filter(|dir| dir.is_dir());
    Ok(present.map(|dir| lock::take(dir)).collect::<Result<_, _>>()?)
}

/// What a controller made on its host.
pub(super) struct Devices {
    /// Host ends of interfaces.
    pub(super) endpoints: Vec<String>,
    /// The VXLAN socket device.
    pub(super) socket_device: String,
    /// Containers go out through the host.
    pub(super) masquerade: bool,
}

/// Devices of this controller as its pins and its store tell; a store that cannot be read tells nothing.
fn known_devices(dirs: &Dirs) -> Devices {
    let mut endpoints: BTreeSet<String> = BTreeSet::new();
    let mut masquerade = false;
    let mut socket_device = socket_device::name(crate::config::DEFAULT_PORT + 1);
    for (program, device) in Datapath::pinned_devices(&dirs.bpf) {
        match program {
            weave_common::map::PROG_CONTAINER => drop(endpoints.insert(device)),
            weave_common::map::PROG_SOCKET => socket_device = device,
            _ => {}
        }
    }
    if dirs.state.is_dir()
        && let Ok((_, stored)) = Store::open(&dirs.state)
    {
        masquerade = stored.reservations.values().any(|held| held.masquerade() == Some(true));
        endpoints.extend(stored.reservations.into_values().filter_map(|held| Some(held.attachment?.host_if)));
    }
    Devices { endpoints: endpoints.into_iter().collect(), socket_device, masquerade }
}

/// Removes containers' interfaces, programs, maps, the VXLAN socket device, and routes for narrow paths. Says what was
/// removed, a line each.
pub(super) async fn remove_dataplane(dirs: &Dirs, devices: &Devices) -> Result<Vec<String>, RunError> {
    let Devices { endpoints: host_ifs, socket_device, masquerade } = devices;
    let present = endpoints::list().await?;
    let mut lines = Vec::new();
    if *masquerade {
        egress::remove().await.map_err(RunError::Masquerade)?;
        lines.push("the rules by which containers went out through this host were removed".to_owned());
    }
    for host_if in host_ifs.iter().filter(|name| present.contains_key(*name)) {
        endpoints::remove(host_if).await?;
        lines.push(format!("the interface {host_if} was removed"));
    }
    Datapath::teardown(&dirs.bpf)?;
    lines.push(format!("programs and maps under {} were removed", dirs.bpf.display()));
    socket_device::remove(socket_device).await?;
    if let Some(data_port) = socket_device::data_port(socket_device) {
        let table = Table::of(data_port);
        if table.remove().await? > 0 {
            lines.push(format!(
                "the routing rule of priority {} and table {} were removed",
                table.priority(),
                table.id()
            ));
        }
    }
    Ok(lines)
}

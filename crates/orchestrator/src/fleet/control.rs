//! Acts upon one device of a fleet: killed, frozen, its link cut or changed, a line typed.

use tokio::sync::oneshot;
use zfl_netsim::Link;

use super::{Fleet, FleetError, Handle};
use crate::body::{Command, NO_SHELL};
use crate::fabric::LinkChange;
use crate::log::lock;

/// Refusal of a change to the link of a native device.
const NO_LINK: &str = "a native device has none; emulate it";

impl Fleet {
    /// Kills a device as a crash would, and waits until it is gone. No harm if it is already.
    pub async fn kill(&self, client: u32) -> Result<(), FleetError> {
        if let Some(pool) = self.pool_of(client)? {
            pool.kill(client).await;
            return Ok(());
        }
        let (done, gone) = oneshot::channel();
        self.command(client, Command::Kill(done)).await?;
        gone.await.map_err(|_| FleetError::State(client))
    }

    /// Kills the gateway of a mesh, which is kept running and so boots again.
    pub async fn restart_gateway(&self) {
        let commands = lock(&self.gateway_runs)
            .as_ref()
            .map(|(commands, _)| commands.clone());
        if let Some(commands) = commands {
            let (done, gone) = oneshot::channel();
            // Without a task the run is over.
            if commands.send(Command::Kill(done)).await.is_ok() {
                let _ = gone.await;
            }
        }
    }

    /// Makes a device stand still as it is; its connections stay open.
    pub async fn freeze(&self, client: u32) -> Result<(), FleetError> {
        if let Some(pool) = self.pool_of(client)? {
            pool.freeze(client);
            return Ok(());
        }
        self.command(client, Command::Freeze).await
    }

    /// Lets a frozen device go on.
    pub async fn thaw(&self, client: u32) -> Result<(), FleetError> {
        if let Some(pool) = self.pool_of(client)? {
            pool.thaw(client);
            return Ok(());
        }
        self.command(client, Command::Thaw).await
    }

    /// Tells if links can be cut: on the networks `switch` and `bridge`.
    pub fn can_cut(&self) -> bool {
        self.shared.fabric.can_cut()
    }

    /// Cuts the link of an emulated device: nothing passes until [`Fleet::heal`], not even after a
    /// reboot. In force when it returns.
    ///
    /// # Errors
    /// [`FleetError::Link`] if the network has no links, or the device is native.
    pub async fn cut(&self, client: u32) -> Result<(), FleetError> {
        self.change_link(client, LinkChange::Cut).await
    }

    /// Heals a link that was cut.
    ///
    /// # Errors
    /// As of [`Fleet::cut`].
    pub async fn heal(&self, client: u32) -> Result<(), FleetError> {
        self.change_link(client, LinkChange::Heal).await
    }

    /// Gives an emulated device another link, for the frames to come. On a bridge a machine that was booted without
    /// a link may send several segments in a frame, until it boots again.
    ///
    /// # Errors
    /// [`FleetError::Link`] if the network cannot impair links, the device is native, or there can be
    /// no such link.
    pub async fn set_link(&self, client: u32, link: Link) -> Result<(), FleetError> {
        self.change_link(client, LinkChange::Set(Box::new(link)))
            .await
    }

    async fn change_link(&self, client: u32, change: LinkChange) -> Result<(), FleetError> {
        if self.pool_of(client)?.is_some() {
            let problem = NO_LINK.to_owned();
            return Err(FleetError::Link { client, problem });
        }
        let device = self.devices.get(&client);
        let changed = match (device.ok_or(FleetError::Unknown(client))?, &change) {
            (
                Handle {
                    is_native: true, ..
                },
                _,
            ) => Err(NO_LINK.into()),
            (_, LinkChange::Set(link)) => link.check(),
            _ => Ok(()),
        };
        let changed = match changed {
            Ok(()) => self.shared.fabric.change_link(client, change).await,
            refused => refused,
        };
        changed.map_err(|problem| FleetError::Link { client, problem })
    }

    /// Types a line into an emulated device's shell while its client runs; returns when it was read.
    ///
    /// # Errors
    /// [`FleetError::Shell`] if the device is native, does not run, or its shell does not take it.
    pub async fn type_line(&self, client: u32, line: &str) -> Result<(), FleetError> {
        if self.pool_of(client)?.is_some() {
            let problem = NO_SHELL.to_owned();
            return Err(FleetError::Shell { client, problem });
        }
        let (done, typed) = oneshot::channel();
        self.command(client, Command::Type(line.to_owned(), done))
            .await?;
        let typed = typed.await.map_err(|_| FleetError::State(client))?;
        typed.map_err(|problem| FleetError::Shell { client, problem })
    }
}

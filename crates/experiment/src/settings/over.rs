//! Laying flags over a file, and the keys for all groups under those of one.

use super::{DeviceSettings, FaultFlags, GroupSettings, GuestOf, Settings};
use crate::choice::{BodyChoice, Time};
use crate::refusal::{Refusal, require};
use zfl_orchestrator::faults::FaultConfig;

impl Settings {
    /// Lays these, which are flags, over what a file says. `guest_of` tells what a board boots, if it is
    /// known.
    ///
    /// # Errors
    /// A [`Refusal`] if they contradict each other.
    pub fn over(self, mut file: Self, guest_of: GuestOf<'_>) -> Result<Self, Refusal> {
        let flags = self;
        require(file.fleet.is_empty() || flags.clients.is_none(), || {
            "the experiment file has a [[fleet]], which says how many devices there are: leave \
             --clients out"
                .to_owned()
        })?;
        if flags.hidden.is_some() || flags.data.is_some() {
            file.layers = None;
        }
        // Native devices have no network, and the host's speed: these keys are of the file's machines.
        if flags.device.body == Some(BodyChoice::Native) {
            file.network = None;
            (file.cost, file.profile) = (None, None);
            file.time = file.time.filter(|time| *time == Time::Estimate);
        }
        let estimated = flags.time.or(file.time) == Some(Time::Estimate);
        for group in &mut file.fleet {
            flags.override_group(group);
        }
        flags.lay_over(&mut file);
        flags.training.lay_over(&mut file.training);
        if flags.time == Some(Time::Host) {
            file.device.count_nothing();
        }
        for group in &mut file.fleet {
            let own = group.device.clone();
            group.device = flags.device.clone().over(own, estimated, guest_of);
        }
        file.device = flags.device.over(file.device, estimated, guest_of);
        flags.fault_flags.over(&mut file.faults)?;
        Ok(file)
    }

    /// Clears the keys of a group that these, which are flags of all groups, override.
    fn override_group(&self, group: &mut GroupSettings) {
        if self.examples_per_client.is_some() {
            group.examples = None;
        }
        self.training.clear_in(&mut group.training);
        if self.time == Some(Time::Host) {
            group.device.count_nothing();
        }
    }
}

impl FaultFlags {
    /// Puts these before what a file says.
    ///
    /// # Errors
    /// A [`Refusal`] if what they say would change nothing.
    fn over(self, faults: &mut FaultConfig) -> Result<(), Refusal> {
        faults.drop_out = self.drop_out.unwrap_or(faults.drop_out);
        let (crash, reboot) = (&mut faults.crash, self.reboot == Some(true));
        crash.probability = self.crash.unwrap_or(crash.probability);
        // Nothing that crashes can boot again for it.
        crash.reboot = reboot || crash.reboot && crash.probability > 0.0;
        require(!reboot || crash.probability > 0.0, || {
            "--reboot is for devices that crash, and none does: give --crash a probability, too, or \
             leave --reboot out (a scheduled crash has `reboot` of its own)"
                .to_owned()
        })
    }
}

impl DeviceSettings {
    /// These, and what they leave open as `other` has it. If time is `estimated`, a native device has a link
    /// and a speed, too.
    pub fn over(self, mut other: Self, estimated: bool, guest_of: GuestOf<'_>) -> Self {
        let flags = self;
        // The same experiment without emulation: what only a machine can have is left out.
        if flags.body == Some(BodyChoice::Native) {
            other = other.without_machine(estimated);
        }
        // A board belongs to a body: whoever asks for another body does not mean the old board, and
        // whoever asks for a board means the body that it boots.
        if flags.excludes_board(&other, guest_of) {
            other.board = None;
        }
        if flags.excludes_body(&other, guest_of) {
            other.body = None;
        }
        flags.lay_over(&mut other);
        other
    }

    /// Leaves out what a native device cannot have.
    fn without_machine(self, estimated: bool) -> Self {
        let energy_j = self.energy_j;
        let figures = match estimated {
            true => Self {
                board: None,
                body: None,
                throttle: None,
                memory_mib: None,
                ..self
            },
            false => Self::default(),
        };
        Self {
            energy_j,
            ..figures
        }
    }

    /// Leaves out what makes a machine count its instructions.
    fn count_nothing(&mut self) {
        (self.mips, self.throttle) = (None, None);
    }

    /// Tells whether the board of `other` does not boot the body that is asked for here.
    pub(crate) fn excludes_board(&self, other: &Self, guest_of: GuestOf<'_>) -> bool {
        self.board.is_none() && !belong(self.body, other.board.as_deref(), guest_of)
    }

    /// Tells whether the board that is asked for here does not boot the body of `other`.
    pub(crate) fn excludes_body(&self, other: &Self, guest_of: GuestOf<'_>) -> bool {
        self.body.is_none() && !belong(other.body, self.board.as_deref(), guest_of)
    }
}

/// Tells whether a device can have both; what is not said or not known is in nobody's way.
fn belong(body: Option<BodyChoice>, board: Option<&str>, guest_of: GuestOf<'_>) -> bool {
    match (body.and_then(BodyChoice::guest), board) {
        (Some(guest), Some(board)) => guest_of(board).is_none_or(|boots| boots == guest),
        _ => true,
    }
}

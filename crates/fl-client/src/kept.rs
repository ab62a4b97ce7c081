//! The kept vectors of a device that has lost its own, taken in from `GET /state`.

use crate::buffers::Buffers;
use crate::outbound::{Download, ExchangeError};
use fl_algo::{SectionSpec, Way};
use fl_proto::message::{
    Kind, MAX_SECTIONS, MessageError, Receiver, SectionHeader, SectionName, Sink,
};
use fl_proto::{KeptState, json, wire_len};

/// Progress of one answer.
#[derive(Debug)]
pub(crate) struct Intake {
    receiver: Receiver,
    sections: heapless::Vec<SectionName, MAX_SECTIONS>,
}

/// A [`Download`] of kept vectors of one round.
pub(crate) struct KeptDownload<'a> {
    pub buffers: &'a mut Buffers,
    pub round: u32,
    pub intake: &'a mut Option<Intake>,
}

impl KeptDownload<'_> {
    /// Checks that all of them came.
    pub fn finish(self) -> Result<(), ExchangeError> {
        let intake = self.intake.take().ok_or(ExchangeError::Malformed)?;
        let whole = intake.receiver.finish();
        whole.map_err(|_| ExchangeError::Malformed)?;
        let missing =
            |section: SectionSpec| !intake.sections.iter().any(|name| name == section.name);
        if self.buffers.rule.sections(Way::State).any(missing) {
            return Err(ExchangeError::Malformed);
        }
        self.buffers.rule.state_arrived(self.round);
        Ok(())
    }
}

impl Download for KeptDownload<'_> {
    fn begin(&mut self, length: u64) -> Result<(), ExchangeError> {
        if length > wire_len::longest_body(self.buffers.incoming(Way::State)) {
            return Err(ExchangeError::Malformed);
        }
        *self.intake = Some(Intake {
            receiver: Receiver::new(Kind::Start, length),
            sections: heapless::Vec::new(),
        });
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), ExchangeError> {
        let Some(Intake { receiver, sections }) = self.intake else {
            return Err(ExchangeError::Malformed);
        };
        let mut taking = Taking {
            buffers: self.buffers,
            round: self.round,
            sections,
        };
        let pushed = receiver.push(bytes, &mut taking);
        pushed.map_err(|Unusable| ExchangeError::Malformed)
    }
}

struct Taking<'a> {
    buffers: &'a mut Buffers,
    round: u32,
    sections: &'a mut heapless::Vec<SectionName, MAX_SECTIONS>,
}

/// Answer that is not the state that was asked for.
struct Unusable;

impl From<MessageError> for Unusable {
    fn from(_: MessageError) -> Self {
        Self
    }
}

impl Sink for Taking<'_> {
    type Refusal = Unusable;

    fn control(&mut self, control: &[u8], _sections: u8) -> Result<(), Unusable> {
        match json::decode::<KeptState>(control) {
            Some(KeptState { round }) if round == self.round => Ok(()),
            _ => Err(Unusable),
        }
    }

    fn buffer(&mut self, header: &SectionHeader) -> Result<&mut [f32], Unusable> {
        if self.sections.contains(&header.name) {
            return Err(Unusable);
        }
        let buffer = self.buffers.rule.state_mut(&header.name).ok_or(Unusable)?;
        match buffer.len() == header.count as usize {
            true => Ok(buffer),
            false => Err(Unusable),
        }
    }

    fn complete(&mut self, header: &SectionHeader) -> Result<(), Unusable> {
        self.sections
            .push(header.name.clone())
            .map_err(|_| Unusable)
    }
}

//! The body of `POST /start`, taken in as it arrives.

use crate::buffers::Buffers;
use crate::http::{Refusal, Request};
use crate::state::State;
use fl_algo::{RuleError, Way};
use fl_proto::codec::Encoding;
use fl_proto::message::{
    Kind, MAX_SECTIONS, MODEL, MessageError, Receiver, SectionHeader, SectionName, Sink,
};
use fl_proto::{Start, json, wire_len};

/// Intake of one `/start`.
///
/// From the control message on, which says the round, it owns the buffers, until
/// [`StartReceiver::take_buffers`] gives them back.
pub(crate) struct StartReceiver {
    receiver: Receiver,
    taken: Taken,
}

/// Parts of a `/start` that have come.
#[derive(Default)]
struct Taken {
    buffers: Option<Buffers>,
    start: Option<Start>,
    sections: heapless::Vec<SectionName, MAX_SECTIONS>,
}

/// Parts of a `/start` and the device that they come to.
struct Taking<'a> {
    taken: &'a mut Taken,
    state: &'a mut State,
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        Self::new(400, error)
    }
}

impl StartReceiver {
    /// Starts on a body that has to fit these buffers.
    pub fn new(request: &Request, buffers: &Buffers) -> Result<Self, Refusal> {
        if !request.is_message {
            return Err(Refusal::new(
                415,
                format_args!("send {}", fl_proto::OCTET_STREAM),
            ));
        }
        let (length, most) = (
            request.content_length,
            wire_len::longest_body(buffers.incoming(Way::Down)),
        );
        if length > most {
            return Err(Refusal::new(
                413,
                format_args!("{length} bytes, at most {most} are taken"),
            ));
        }
        Ok(Self {
            receiver: Receiver::new(Kind::Start, length),
            taken: Taken::default(),
        })
    }

    /// Bytes of the body still to come.
    pub fn remaining(&self) -> u64 {
        self.receiver.remaining()
    }

    /// Gives the buffers back, if it has got them.
    pub fn take_buffers(&mut self) -> Option<Buffers> {
        self.taken.buffers.take()
    }

    /// Takes in the next piece.
    pub fn push(&mut self, bytes: &[u8], state: &mut State) -> Result<(), Refusal> {
        let taken = &mut self.taken;
        self.receiver.push(bytes, &mut Taking { taken, state })
    }

    /// Checks what only the whole body can tell, returns the control message.
    pub fn finish(&mut self) -> Result<Start, Refusal> {
        self.receiver.finish()?;
        let taken = &mut self.taken;
        let buffers = taken.buffers.as_ref().ok_or(MessageError::Truncated)?;
        let trains = taken.start.as_ref().is_none_or(|start| !start.evaluate);
        let sections = buffers.rule.sections(Way::Down);
        let sections = sections.filter(|section| trains || section.name == MODEL);
        let mut wanted = sections.map(|section| section.name);
        if let Some(missing) = wanted.find(|&one| !taken.sections.iter().any(|name| name == one)) {
            return Err(Refusal::new(
                400,
                format_args!("section {missing} is missing"),
            ));
        }
        let came = &buffers.params[..buffers.rule.travelling()];
        if let Some(at) = came.iter().position(|p| !p.is_finite()) {
            return Err(Refusal::new(
                400,
                format_args!("parameter {at} is not finite"),
            ));
        }
        taken.start.take().ok_or(MessageError::Truncated.into())
    }
}

impl Taking<'_> {
    /// Takes the encoding of the update.
    fn encode_by(&mut self, start: &Start) -> Result<(), Refusal> {
        let name = &start.encoding_up;
        let encoding = Encoding::of_wire(name, &start.encoding_args).ok_or_else(|| {
            Refusal::new(
                400,
                format_args!("this device has no codec {name} with these parameters"),
            )
        })?;
        let buffers = self.taken.buffers.as_mut();
        match buffers.ok_or(MessageError::Truncated)?.encode_by(encoding) {
            true => Ok(()),
            false => Err(Refusal::new(
                507,
                format_args!("codec {name} needs a vector more, this device has no memory for it"),
            )),
        }
    }
}

impl Sink for Taking<'_> {
    type Refusal = Refusal;

    fn control(&mut self, control: &[u8], _sections: u8) -> Result<(), Refusal> {
        let start: Start =
            json::decode(control).ok_or_else(|| Refusal::new(400, "malformed control message"))?;
        let buffers = self.state.hand_over(&start)?;
        let rule = &mut self.taken.buffers.insert(buffers).rule;
        if start.rule != rule.name() {
            let (asked, own) = (&start.rule, rule.name());
            return Err(Refusal::new(
                400,
                format_args!("rule {asked}, this device joined for {own}"),
            ));
        }
        rule.prepare(start.params.iter()).map_err(|error| {
            let status = match error {
                RuleError::OutOfMemory { .. } => 507,
                RuleError::Unknown | RuleError::Param(_) => 400,
            };
            Refusal::new(status, error)
        })?;
        self.encode_by(&start)?;
        self.taken.start = Some(start);
        Ok(())
    }

    fn buffer(&mut self, header: &SectionHeader) -> Result<&mut [f32], Refusal> {
        let name = &header.name;
        if self.taken.sections.contains(name) {
            return Err(MessageError::Twice(name.clone()).into());
        }
        let buffers = self.taken.buffers.as_mut();
        let Buffers { params, rule, .. } = buffers.ok_or(MessageError::Truncated)?;
        let got = header.count;
        if name == MODEL {
            let want = rule.travelling();
            if got as usize != want {
                return Err(Refusal::new(
                    400,
                    format_args!("{got} parameters, the model has {want}"),
                ));
            }
            // What stays on the device is behind it.
            return Ok(&mut params[..want]);
        }
        match rule.down_mut(name) {
            None => Err(Refusal::new(
                400,
                format_args!("section {name} is not wanted"),
            )),
            Some(vector) if vector.len() == got as usize => Ok(vector),
            Some(vector) => {
                let want = vector.len();
                Err(Refusal::new(
                    400,
                    format_args!("{got} numbers in section {name}, the rule has {want}"),
                ))
            }
        }
    }

    fn complete(&mut self, header: &SectionHeader) -> Result<(), Refusal> {
        // Never full: the head said how many sections there are.
        let _ = self.taken.sections.push(header.name.clone());
        Ok(())
    }
}

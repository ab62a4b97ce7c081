//! The body of `POST /start`, taken in as it arrives.

use crate::buffers::Buffers;
use crate::http::{Refusal, Request};
use fl_algo::{RuleError, Way};
use fl_proto::message::{
    Kind, MAX_SECTIONS, MODEL, MessageError, Receiver, SectionHeader, SectionName, Sink,
};
use fl_proto::{Start, json, wire_len};

/// Intake of one `/start`.
///
/// It owns the buffers until [`StartReceiver::into_buffers`] gives them back.
pub(crate) struct StartReceiver {
    receiver: Receiver,
    taken: Taken,
}

/// Parts of a `/start` that have come.
struct Taken {
    buffers: Buffers,
    start: Option<Start>,
    sections: heapless::Vec<SectionName, MAX_SECTIONS>,
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        Self::new(400, error)
    }
}

impl StartReceiver {
    /// Starts on a body; a refusal gives the buffers back.
    pub fn new(request: &Request, buffers: Buffers) -> Result<Self, (Refusal, Buffers)> {
        if !request.is_message {
            let refusal = Refusal::new(415, format_args!("send {}", fl_proto::OCTET_STREAM));
            return Err((refusal, buffers));
        }
        let (length, most) = (
            request.content_length,
            wire_len::longest_body(buffers.incoming(Way::Down)),
        );
        if length > most {
            let refusal = Refusal::new(
                413,
                format_args!("{length} bytes, at most {most} are taken"),
            );
            return Err((refusal, buffers));
        }
        Ok(Self {
            receiver: Receiver::new(Kind::Start, length),
            taken: Taken {
                buffers,
                start: None,
                sections: heapless::Vec::new(),
            },
        })
    }

    /// Bytes of the body still to come.
    pub fn remaining(&self) -> u64 {
        self.receiver.remaining()
    }

    /// Gives the buffers back.
    pub fn into_buffers(self) -> Buffers {
        self.taken.buffers
    }

    /// Takes in the next piece.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.receiver.push(bytes, &mut self.taken)
    }

    /// Checks what only the whole body can tell, returns the control message.
    pub fn finish(&mut self) -> Result<Start, Refusal> {
        self.receiver.finish()?;
        let taken = &mut self.taken;
        let specs = taken.buffers.rule.specs().iter();
        let further = specs.filter(|spec| spec.down).map(|spec| spec.name);
        let mut wanted = core::iter::once(MODEL).chain(further);
        if let Some(missing) = wanted.find(|&one| !taken.sections.iter().any(|name| name == one)) {
            return Err(Refusal::new(
                400,
                format_args!("section {missing} is missing"),
            ));
        }
        if let Some(at) = taken.buffers.params.iter().position(|p| !p.is_finite()) {
            return Err(Refusal::new(
                400,
                format_args!("parameter {at} is not finite"),
            ));
        }
        taken.start.take().ok_or(MessageError::Truncated.into())
    }
}

impl Sink for Taken {
    type Refusal = Refusal;

    fn control(&mut self, control: &[u8], _sections: u8) -> Result<(), Refusal> {
        let start: Start =
            json::decode(control).ok_or_else(|| Refusal::new(400, "malformed control message"))?;
        let rule = &mut self.buffers.rule;
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
        self.start = Some(start);
        Ok(())
    }

    fn buffer(&mut self, header: &SectionHeader) -> Result<&mut [f32], Refusal> {
        let name = &header.name;
        if self.sections.contains(name) {
            return Err(MessageError::Twice(name.clone()).into());
        }
        let got = header.count;
        if name == MODEL {
            let params = &mut self.buffers.params;
            if got as usize != params.len() {
                let want = params.len();
                return Err(Refusal::new(
                    400,
                    format_args!("{got} parameters, the model has {want}"),
                ));
            }
            return Ok(params);
        }
        match self.buffers.rule.down_mut(name) {
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
        let _ = self.sections.push(header.name.clone());
        Ok(())
    }
}

//! The body of `POST /start`, taken in as it arrives.

use crate::http::{BodyForm, Refusal, Request};
use alloc::vec::Vec;
use fl_proto::frame::{Checksum, HEADER_LEN, Header, Kind};
use fl_proto::{MAX_CONTROL_BYTES, ParamDecoder, Start, compat, json};

/// Takes in the parameters and the control message of one `/start`.
///
/// It owns the parameter buffer until [`StartReceiver::into_params`] gives it back.
pub(crate) struct StartReceiver {
    params: Vec<f32>,
    remaining: u64,
    form: Form,
}

enum Form {
    Header {
        bytes: [u8; HEADER_LEN],
        len: usize,
    },
    Control {
        header: Header,
        checksum: Checksum,
        control: heapless::Vec<u8, MAX_CONTROL_BYTES>,
    },
    Params {
        header: Header,
        checksum: Checksum,
        start: Start,
        decoder: ParamDecoder,
    },
    Json {
        body: Vec<u8>,
    },
}

impl StartReceiver {
    /// Starts on a body for `params.len()` parameters; a refusal gives the buffer back.
    pub fn new(request: &Request, params: Vec<f32>) -> Result<Self, (Refusal, Vec<f32>)> {
        let frame_len = HEADER_LEN + 4 * params.len();
        let control_max = MAX_CONTROL_BYTES as u64;
        let (form, min, max) = match request.form {
            None => {
                let refusal = Refusal::new(
                    415,
                    format_args!("send {} or {}", fl_proto::OCTET_STREAM, fl_proto::JSON),
                );
                return Err((refusal, params));
            }
            Some(BodyForm::Frame) => {
                let form = Form::Header {
                    bytes: [0; HEADER_LEN],
                    len: 0,
                };
                (form, frame_len as u64, frame_len as u64 + control_max)
            }
            Some(BodyForm::Json) => {
                let text = compat::base64_len(params.len()).unwrap_or(usize::MAX) as u64;
                (
                    Form::Json { body: Vec::new() },
                    text,
                    text.saturating_add(control_max),
                )
            }
        };
        let length = request.content_length;
        if length > max {
            let refusal =
                Refusal::new(413, format_args!("{length} bytes, at most {max} are taken"));
            return Err((refusal, params));
        }
        if length < min {
            let n = params.len();
            let refusal = Refusal::new(
                400,
                format_args!("{length} bytes are too short for {n} parameters"),
            );
            return Err((refusal, params));
        }
        let mut receiver = Self {
            params,
            remaining: length,
            form,
        };
        if let Form::Json { body } = &mut receiver.form
            && body.try_reserve_exact(length as usize).is_err()
        {
            let refusal = Refusal::new(
                507,
                format_args!(
                    "no memory for {length} bytes of JSON; use {}",
                    fl_proto::OCTET_STREAM
                ),
            );
            return Err((refusal, receiver.params));
        }
        Ok(receiver)
    }

    /// Bytes of the body still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The form that the body came in, and the results will go out in.
    pub fn body_form(&self) -> BodyForm {
        match self.form {
            Form::Json { .. } => BodyForm::Json,
            _ => BodyForm::Frame,
        }
    }

    /// Gives the parameter buffer back.
    pub fn into_params(self) -> Vec<f32> {
        self.params
    }

    /// Takes in the next piece; the caller passes no more than [`Self::remaining`] bytes.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Refusal> {
        self.remaining -= bytes.len() as u64;
        while !bytes.is_empty() {
            bytes = self.push_some(bytes)?;
        }
        Ok(())
    }

    /// Takes in bytes up to the end of the current part, returns the rest.
    fn push_some<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], Refusal> {
        match &mut self.form {
            Form::Header { bytes: head, len } => {
                let (now, rest) = bytes.split_at(bytes.len().min(HEADER_LEN - *len));
                head[*len..*len + now.len()].copy_from_slice(now);
                *len += now.len();
                if *len == HEADER_LEN {
                    let header = Header::parse(head).map_err(|e| Refusal::new(400, e))?;
                    self.check_header(&header, rest.len() as u64)?;
                    let checksum = header.checksum();
                    self.form = Form::Control {
                        header,
                        checksum,
                        control: heapless::Vec::new(),
                    };
                }
                Ok(rest)
            }
            Form::Control {
                header,
                checksum,
                control,
            } => {
                let missing = usize::from(header.control_len) - control.len();
                let (now, rest) = bytes.split_at(bytes.len().min(missing));
                checksum.update(now);
                if control.extend_from_slice(now).is_err() {
                    return Err(Refusal::new(413, "the control message is too long"));
                }
                if now.len() == missing {
                    let start = parse_start(control)?;
                    if start.round != header.round {
                        return Err(Refusal::new(
                            400,
                            "header and control message name different rounds",
                        ));
                    }
                    self.form = Form::Params {
                        header: *header,
                        checksum: checksum.clone(),
                        start,
                        decoder: ParamDecoder::new(),
                    };
                }
                Ok(rest)
            }
            Form::Params {
                checksum, decoder, ..
            } => {
                checksum.update(bytes);
                if !decoder.push(bytes, &mut self.params) {
                    return Err(Refusal::new(400, "more parameters than the model has"));
                }
                Ok(&[])
            }
            Form::Json { body } => {
                // Room for all of it was taken at the start.
                body.extend_from_slice(bytes);
                Ok(&[])
            }
        }
    }

    /// Checks a header against the model and the body's length; `behind` bytes of it are at hand.
    fn check_header(&self, header: &Header, behind: u64) -> Result<(), Refusal> {
        if header.kind != Kind::Weights {
            return Err(Refusal::new(400, "/start takes weights, not a delta"));
        }
        if header.count as usize != self.params.len() {
            let (got, want) = (header.count, self.params.len());
            return Err(Refusal::new(
                400,
                format_args!("{got} parameters, the model has {want}"),
            ));
        }
        if header.control_len == 0 {
            return Err(Refusal::new(400, "the control message is missing"));
        }
        if header.body_len() != HEADER_LEN as u64 + behind + self.remaining {
            return Err(Refusal::new(
                400,
                "Content-Length and frame header disagree",
            ));
        }
        Ok(())
    }

    /// Checks what only the whole body can tell, returns the control message.
    pub fn finish(&mut self) -> Result<Start, Refusal> {
        let start = match &self.form {
            Form::Header { .. } | Form::Control { .. } => {
                return Err(Refusal::new(400, "the frame is cut off"));
            }
            Form::Params {
                header,
                checksum,
                start,
                decoder,
            } => {
                if !decoder.is_complete(self.params.len()) {
                    return Err(Refusal::new(400, "the frame is cut off"));
                }
                if checksum.clone().finish() != header.crc {
                    return Err(Refusal::new(400, "the checksum is wrong"));
                }
                start.clone()
            }
            Form::Json { body } => {
                let start = parse_start(body)?;
                if !compat::decode_weights(body, &mut self.params) {
                    let n = self.params.len();
                    return Err(Refusal::new(
                        400,
                        format_args!("weights: not base64 of {n} f32"),
                    ));
                }
                start
            }
        };
        if let Some(at) = self.params.iter().position(|p| !p.is_finite()) {
            return Err(Refusal::new(
                400,
                format_args!("parameter {at} is not finite"),
            ));
        }
        Ok(start)
    }
}

fn parse_start(control: &[u8]) -> Result<Start, Refusal> {
    json::decode(control).ok_or_else(|| Refusal::new(400, "malformed control message"))
}

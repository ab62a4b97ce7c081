//! The body of `POST /results`, made as it is sent.

use crate::http::BodyForm;
use crate::job::resize;
use alloc::vec::Vec;
use fl_proto::frame::{Header, Kind};
use fl_proto::{MAX_CONTROL_BYTES, ParamEncoder, Results, compat, json};

/// Parameter bytes per piece: whole parameters, and a multiple of three for base64.
const PIECE_BYTES: usize = 3072;

/// An update on its way out.
pub(crate) struct Upload {
    form: BodyForm,
    content_length: u64,
    encoder: ParamEncoder,
    /// The piece being sent.
    piece: Vec<u8>,
    sent: usize,
    ended: bool,
}

impl Upload {
    /// Prepares to send `params`; `None` if the device has no memory for one piece.
    pub fn new(form: BodyForm, results: &Results, params: &[f32]) -> Option<Self> {
        let mut control = [0; MAX_CONTROL_BYTES];
        let control_len = json::encode(results, &mut control)?;
        let control = &control[..control_len];
        let mut piece = Vec::new();
        piece
            .try_reserve_exact(PIECE_BYTES / 3 * 4 + 2 * MAX_CONTROL_BYTES)
            .ok()?;
        let content_length = match form {
            BodyForm::Frame => {
                let header = Header::new(Kind::Weights, results.round, control, params).ok()?;
                piece.extend_from_slice(&header.emit());
                piece.extend_from_slice(control);
                header.body_len()
            }
            BodyForm::Json => {
                let (fields, _brace) = control.split_at(control_len.checked_sub(1)?);
                piece.extend_from_slice(fields);
                piece.extend_from_slice(compat::WEIGHTS_KEY.as_bytes());
                let text = compat::base64_len(params.len())?;
                (piece.len() + text + compat::WEIGHTS_END.len()) as u64
            }
        };
        Some(Self {
            form,
            content_length,
            encoder: ParamEncoder::new(),
            piece,
            sent: 0,
            ended: false,
        })
    }

    /// Length of the whole body in bytes.
    pub fn content_length(&self) -> u64 {
        self.content_length
    }

    /// The next bytes to send; empty at the end.
    pub fn chunk(&mut self, params: &[f32]) -> &[u8] {
        if self.sent == self.piece.len() && !self.ended {
            self.next_piece(params);
        }
        &self.piece[self.sent..]
    }

    /// Tells that `n` bytes of the chunk went out.
    pub fn consume(&mut self, n: usize) {
        self.sent += n;
    }

    fn next_piece(&mut self, params: &[f32]) {
        self.sent = 0;
        let mut bytes = [0; PIECE_BYTES];
        let n = self.encoder.fill(params, &mut bytes);
        self.ended = n == 0;
        match self.form {
            BodyForm::Frame => {
                self.piece.clear();
                self.piece.extend_from_slice(&bytes[..n]);
            }
            BodyForm::Json if self.ended => {
                self.piece.clear();
                self.piece.extend_from_slice(compat::WEIGHTS_END.as_bytes());
            }
            BodyForm::Json => {
                // Never fails: room for the text of a whole piece was taken at the start.
                let fits = resize(&mut self.piece, PIECE_BYTES / 3 * 4);
                debug_assert!(fits);
                let n = compat::encode_piece(&bytes[..n], &mut self.piece).unwrap_or(0);
                self.piece.truncate(n);
            }
        }
    }
}

//! Pacing what a guest receives: a token bucket (tc's `tbf`) on the host's end of its tap.

use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcOption};
use rtnetlink::{Error, Handle};

use super::queue;

// Of <linux/pkt_sched.h>.
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_BURST: u16 = 6;
const TC_LINKLAYER_ETHERNET: u8 = 1;

/// A small frame costs a poor card as much as a large one: a descriptor.
const MIN_FRAME_BYTES: u16 = 1500;

/// One frame with its header: two never leave back to back.
const BURST_BYTES: u32 = 1600;

/// Eight windows of 16 KiB may wait.
const QUEUE_BYTES: u32 = 128 * 1024;

/// Holds what leaves on the link to `kbit_per_s`, instead of any former limit.
///
/// `parent`: the root of the link, or a place below another queue.
pub(super) async fn limit(
    netlink: &Handle,
    link: u32,
    parent: TcHandle,
    kbit_per_s: u32,
) -> Result<(), Error> {
    let options = TcAttribute::Options(vec![
        TcOption::Other(DefaultNla::new(TCA_TBF_PARMS, parameters(kbit_per_s))),
        TcOption::Other(DefaultNla::new(
            TCA_TBF_BURST,
            BURST_BYTES.to_ne_bytes().to_vec(),
        )),
    ]);
    queue::put(netlink, link, parent, TcHandle::UNSPEC, "tbf", options).await
}

/// `struct tc_tbf_qopt`: the rate, an absent peak rate, and the length of the queue.
fn parameters(kbit_per_s: u32) -> Vec<u8> {
    let bytes_per_s = (u64::from(kbit_per_s) * 1000 / 8)
        .try_into()
        .unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(36);
    // tc_ratespec: cell_log, linklayer, overhead, cell_align, mpu, rate.
    bytes.extend([0, TC_LINKLAYER_ETHERNET, 0, 0, 0, 0]);
    bytes.extend(MIN_FRAME_BYTES.to_ne_bytes());
    bytes.extend(bytes_per_s.to_ne_bytes());
    bytes.extend([0; 12]);
    bytes.extend(QUEUE_BYTES.to_ne_bytes());
    // The bucket and its largest frame, in ticks; TCA_TBF_BURST stands in for them.
    bytes.extend([0; 8]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_laid_out_as_the_kernel_reads_them() {
        let bytes = parameters(30_000);
        assert_eq!(bytes.len(), 36);
        assert_eq!(bytes[6..8], 1500u16.to_ne_bytes());
        assert_eq!(bytes[8..12], 3_750_000u32.to_ne_bytes());
        assert_eq!(bytes[24..28], QUEUE_BYTES.to_ne_bytes());
    }
}

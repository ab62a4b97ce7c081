//! Queueing disciplines (tc's `qdisc`) on the links of this network namespace.

use futures::StreamExt;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use rtnetlink::{Error, Handle};

/// Puts a queue of this kind to a place of a link, or changes the one that is there.
pub(super) async fn put(
    netlink: &Handle,
    link: u32,
    parent: TcHandle,
    handle: TcHandle,
    kind: &str,
    options: TcAttribute,
) -> Result<(), Error> {
    let mut message = TcMessage::with_index(link.cast_signed());
    message.header.parent = parent;
    message.header.handle = handle;
    message.attributes = vec![TcAttribute::Kind(kind.into()), options];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
    let mut netlink = netlink.clone();
    let mut answers = netlink.request(request)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(Error::NetlinkError(error));
        }
    }
    Ok(())
}

/// Takes the queue away that is at the root of a link.
pub(super) async fn remove(netlink: &Handle, link: u32) -> Result<(), Error> {
    let mut delete = netlink.qdisc().del(link.cast_signed());
    delete.message_mut().header.parent = TcHandle::ROOT;
    delete.execute().await
}

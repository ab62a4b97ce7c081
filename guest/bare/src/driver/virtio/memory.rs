//! Memory that driver and card share. The guest maps memory to itself and has no IOMMU, so a
//! physical address is the pointer.

use alloc::alloc::{alloc_zeroed, dealloc, handle_alloc_error};
use core::alloc::Layout;
use core::ptr::{self, NonNull};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// The guest's memory as virtio sees it.
pub struct IdentityMapped;

fn pages_layout(pages: usize) -> Layout {
    let layout = Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE);
    layout.expect("a queue of a few pages is a valid layout")
}

// SAFETY: blocks of the heap are distinct, aligned as asked and zeroed; memory is mapped to itself,
// so both addresses of a block are the same, and sharing a buffer takes nothing.
unsafe impl Hal for IdentityMapped {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let layout = pages_layout(pages);
        // SAFETY: a virtio queue has at least one page, so the layout is not empty.
        let block = unsafe { alloc_zeroed(layout) };
        let block = NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout));
        (block.as_ptr().expose_provenance() as PhysAddr, block)
    }

    unsafe fn dma_dealloc(_: PhysAddr, block: NonNull<u8>, pages: usize) -> i32 {
        // SAFETY: the caller returns a block of `dma_alloc` with the number of pages it has.
        unsafe { dealloc(block.as_ptr(), pages_layout(pages)) };
        0
    }

    unsafe fn mmio_phys_to_virt(address: PhysAddr, _: usize) -> NonNull<u8> {
        let address = usize::try_from(address).expect("the machine's BIOS maps cards below 4 GiB");
        NonNull::new(ptr::with_exposed_provenance_mut(address)).expect("no card is at address 0")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        buffer.as_ptr().expose_provenance() as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}

# PVH entry: protected mode, flat segments, no paging, ebx = boot information. QEMU loads the segments to their places;
# of a Multiboot image each machine would keep a copy besides.

.section .note.pvh, "a", @note
.align 4
.set XEN_ELFNOTE_PHYS32_ENTRY, 18
.long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.long _start

.section .text._start, "ax"
.global _start
_start:
    cli
    cld
    mov esp, offset __stack_top

    mov edi, offset __bss_start
    mov ecx, offset __bss_end
    sub ecx, edi
    shr ecx, 2
    xor eax, eax
    rep stosd

    # SSE on: CR0.EM off, CR0.MP on; CR4.OSFXSR and OSXMMEXCPT on.
    mov eax, cr0
    and eax, ~(1 << 2)
    or eax, 1 << 1
    mov cr0, eax
    mov eax, cr4
    or eax, (1 << 9) | (1 << 10)
    mov cr4, eax

    # AVX on, where there is XSAVE to switch it on: CR4.OSXSAVE, then x87, SSE and AVX in XCR0. QEMU reserves the bit of
    # CR4 unless XSAVEOPT or its like is there.
    mov esi, ebx
    mov eax, 1
    cpuid
    and ecx, (1 << 26) | (1 << 28)
    cmp ecx, (1 << 26) | (1 << 28)
    jne 1f
    mov eax, 0xd
    mov ecx, 1
    cpuid
    test eax, eax
    jz 1f
    mov eax, cr4
    or eax, 1 << 18
    mov cr4, eax
    xor ecx, ecx
    xor edx, edx
    mov eax, 0b111
    xsetbv
1:  mov ebx, esi

    # The chain of frames ends here. The stack is 16-byte aligned at the call, as the ABI asks.
    xor ebp, ebp
    sub esp, 12
    push ebx
    call {start}
    ud2

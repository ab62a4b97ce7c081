# Multiboot 0.6.96 entry: protected mode, flat segments, no paging, eax = magic, ebx = information.

.section .multiboot, "a"
.align 4
.set FLAGS, 0x00000003              # page-aligned modules, memory sizes
.long 0x1BADB002, FLAGS, -(0x1BADB002 + FLAGS)

.section .text._start, "ax"
.global _start
_start:
    cli
    cld
    mov esp, offset __stack_top
    mov edx, eax

    # The loader has zeroed it already if it read the specification as we do.
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

    # The chain of frames ends here. The stack is 16-byte aligned at the call, as the ABI asks.
    xor ebp, ebp
    sub esp, 8
    push ebx
    push edx
    call {start}
    ud2

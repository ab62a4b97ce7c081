# Entry stubs. Nothing here runs Rust on an interrupt: a stub counts, marks the line as pending,
# masks it and returns, so the interrupted code's registers (SSE's too) are never in danger. The
# main loop serves what is pending and unmasks the line. An exception is fatal and never returns.

.section .text.interrupts, "ax"

.macro IRQ line
irq_\line:
    push eax
    mov eax, \line
    jmp irq_common
.endm
.irp line, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
IRQ \line
.endr

irq_common:
    push ecx
    push edx
    mov ecx, eax
    inc dword ptr [{counts} + ecx * 4]
    bts dword ptr [{pending}], ecx
    mov edx, 1
    shl edx, cl
    in al, 0x21
    or al, dl
    out 0x21, al
    mov al, 0x20
    test dh, dh
    jz 2f
    in al, 0xa1
    or al, dh
    out 0xa1, al
    mov al, 0x20
    out 0xa0, al                    # end of interrupt at the second controller
2:  out 0x20, al
    pop edx
    pop ecx
    pop eax
    iretd

irq_timer:
    inc dword ptr [{counts} + 16 * 4]
    bts dword ptr [{pending}], 16
    mov dword ptr [0xfee000b0], 0   # end of interrupt at the local APIC
irq_spurious:
    iretd

# Exceptions: those without an error code get a zero, so that every frame has one layout.
.macro EXCEPTION vector
exception_\vector:
    push 0
    push \vector
    jmp exception_common
.endm
.macro EXCEPTION_WITH_CODE vector
exception_\vector:
    push \vector
    jmp exception_common
.endm
.irp vector, 0, 1, 2, 3, 4, 5, 6, 7, 9, 15, 16, 18, 19, 20, 22, 23, 24, 25, 26, 27, 28, 31
EXCEPTION \vector
.endr
.irp vector, 8, 10, 11, 12, 13, 14, 17, 21, 29, 30
EXCEPTION_WITH_CODE \vector
.endr

exception_common:
    pushad
    mov eax, esp
    cld
    and esp, -16
    sub esp, 12
    push eax
    call {exception}
    ud2

# Entered by a task switch on the fault stack, since the stack itself may be what failed. The
# switch sets CR0.TS, under which the first SSE instruction would fault again.
.global double_fault_entry
double_fault_entry:
    clts
    cld
    xor ebp, ebp
    and esp, -16
    call {double_fault}
    ud2

# The stubs in the order of their vectors: 32 exceptions, 16 lines, the timer, the spurious one.
.section .rodata.interrupts, "a"
.align 4
.global interrupt_stubs
interrupt_stubs:
.irp vector, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
.long exception_\vector
.endr
.irp vector, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
.long exception_\vector
.endr
.irp line, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
.long irq_\line
.endr
.long irq_timer, irq_spurious

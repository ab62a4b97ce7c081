@ Reset: the vectors, data and bss, the two stacks. Handlers (here: of faults alone) run on the fault stack, the
@ firmware on its own.

.section .vectors, "a"
.align 2
    .word __fault_stack_top
    .word _start
.rept 14
    .word fault
.endr
    @ The rest of the page, in which nobody may read (protection.rs). Interrupts stay off: they have no vectors.
    .space 1024 - 64

.section .text._start, "ax"
.global _start
.type _start, %function
.thumb_func
_start:
    cpsid i
    @ The floating-point unit on, where there is one.
    ldr r0, =0xe000ed88
    ldr r1, =0x00f00000
    str r1, [r0]
    dsb
    isb
    ldr r0, =__stack_top
    msr psp, r0
    movs r0, #2
    msr control, r0
    isb

    ldr r0, =__data_load
    ldr r1, =__data_start
    ldr r2, =__data_end
1:  cmp r1, r2
    bhs 2f
    ldmia r0!, {{r3}}
    stmia r1!, {{r3}}
    b 1b
2:  ldr r1, =__bss_start
    ldr r2, =__bss_end
    movs r3, #0
3:  cmp r1, r2
    bhs 4f
    stmia r1!, {{r3}}
    b 3b

    @ The chain of frames ends here.
4:  movs r7, #0
    bl {start}
    udf #0

.type fault, %function
.thumb_func
fault:
    mrs r0, psp
    mov r1, r7
    bl {exception}
    udf #0
.pool

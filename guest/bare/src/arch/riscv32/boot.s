# Reset: machine mode, nothing set up; everything but this hart's registers is as QEMU has it at power-on.

.section .text._start, "ax"
.global _start
_start:
    la sp, __stack_top
    la t0, trap
    csrw mtvec, t0

    la t0, __data_load
    la t1, __data_start
    la t2, __data_end
1:  bgeu t1, t2, 2f
    lw t3, 0(t0)
    sw t3, 0(t1)
    addi t0, t0, 4
    addi t1, t1, 4
    j 1b
2:  la t1, __bss_start
    la t2, __bss_end
3:  bgeu t1, t2, 4f
    sw zero, 0(t1)
    addi t1, t1, 4
    j 3b

    # The chain of frames ends here.
4:  li s0, 0
    li ra, 0
    call {start}
    unimp

# Every trap is an exception, since interrupts stay off, and the firmware's end. It is reported on a stack of its own.
.balign 4
trap:
    csrw mscratch, sp
    la sp, __fault_stack_top
    addi sp, sp, -48
    sw ra, 0(sp)
    sw s0, 8(sp)
    sw a0, 12(sp)
    sw a1, 16(sp)
    sw a2, 20(sp)
    sw a3, 24(sp)
    sw a4, 28(sp)
    sw a5, 32(sp)
    sw a6, 36(sp)
    sw a7, 40(sp)
    csrr a0, mscratch
    sw a0, 4(sp)
    mv a0, sp
    call {exception}
    unimp

# memcpy, memmove, memset, memcmp, bcmp: what compiled code calls and no C library gives here.
#
# In assembly, since a compiler may turn such a loop in Rust into a call of itself. 16 bytes a turn:
# TCG inlines unaligned SSE moves, and runs `rep movsb` one byte at a time. cdecl: eax, ecx, edx are
# free; every argument is on the stack.

.section .text.memory, "ax"

.global memmove
memmove:
    mov eax, [esp + 4]
    mov ecx, [esp + 8]
    mov edx, eax
    sub edx, ecx
    cmp edx, [esp + 12]             # unsigned: below only if the target starts inside the source
    jb copy_backward
.global memcpy
memcpy:
    push esi
    push edi
    mov eax, [esp + 12]
    mov edi, eax
    mov esi, [esp + 16]
    mov ecx, [esp + 20]
    mov edx, ecx
    shr ecx, 4
    jz 3f
2:  movdqu xmm0, [esi]
    movdqu [edi], xmm0
    add esi, 16
    add edi, 16
    dec ecx
    jnz 2b
3:  and edx, 15
    jz 5f
4:  mov cl, [esi]
    mov [edi], cl
    inc esi
    inc edi
    dec edx
    jnz 4b
5:  pop edi
    pop esi
    ret

copy_backward:
    push esi
    push edi
    mov edi, [esp + 12]
    mov esi, [esp + 16]
    mov edx, [esp + 20]
    mov ecx, edx
    add esi, edx
    add edi, edx
    shr ecx, 4
    jz 3f
2:  sub esi, 16
    sub edi, 16
    movdqu xmm0, [esi]
    movdqu [edi], xmm0
    dec ecx
    jnz 2b
3:  and edx, 15
    jz 5f
4:  dec esi
    dec edi
    mov cl, [esi]
    mov [edi], cl
    dec edx
    jnz 4b
5:  mov eax, [esp + 12]
    pop edi
    pop esi
    ret

.global memset
memset:
    push edi
    mov edi, [esp + 8]
    movzx eax, byte ptr [esp + 12]
    imul eax, eax, 0x01010101
    movd xmm0, eax
    pshufd xmm0, xmm0, 0
    mov edx, [esp + 16]
    mov ecx, edx
    shr ecx, 4
    jz 3f
2:  movdqu [edi], xmm0
    add edi, 16
    dec ecx
    jnz 2b
3:  and edx, 15
    jz 5f
4:  mov [edi], al
    inc edi
    dec edx
    jnz 4b
5:  mov eax, [esp + 8]
    pop edi
    ret

.global memcmp
.global bcmp
memcmp:
bcmp:
    push esi
    push edi
    mov esi, [esp + 12]
    mov edi, [esp + 16]
    mov edx, [esp + 20]
2:  sub edx, 4
    jb 3f
    mov eax, [esi]
    cmp eax, [edi]
    jne 3f                          # the bytes below find which one differs
    add esi, 4
    add edi, 4
    jmp 2b
3:  add edx, 4
    jz 5f
4:  movzx eax, byte ptr [esi]
    movzx ecx, byte ptr [edi]
    sub eax, ecx
    jne 6f
    inc esi
    inc edi
    dec edx
    jnz 4b
5:  xor eax, eax
6:  pop edi
    pop esi
    ret

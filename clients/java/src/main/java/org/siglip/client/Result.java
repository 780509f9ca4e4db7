package org.siglip.client;

/**
 * The embedding of one item of a stream, or why there is none.
 *
 * @param index the item's place in the stream, from 0
 */
public record Result(long index, Object key, Embedding embedding) {}
